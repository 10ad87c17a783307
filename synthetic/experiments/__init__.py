"""Experiments: each makes one result, which the figure of the same name draws."""
