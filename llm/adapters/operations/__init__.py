"""Adapters in files resized, folded, merged and compared: exactly, by r×r matrices, without the base model."""
