"""Curvature of a model's loss in single layers' factors: trained, balanced, and along the gauge path."""
