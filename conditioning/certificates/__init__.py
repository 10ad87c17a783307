"""Certificates of claims, one file a claim, and `check`, which checks them and knows nothing else of this project."""
