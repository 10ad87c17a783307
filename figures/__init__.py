"""Figures of saved results: not built yet."""
