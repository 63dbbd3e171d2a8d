"""Evaluation: a network over pictures, every picture counted once."""
