"""Theorems behind claims, in Coq's language, and the record of their last check: data, and `check`, which renews it."""
