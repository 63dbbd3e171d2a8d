"""Weights: the bundle, and networks with weights in them."""
