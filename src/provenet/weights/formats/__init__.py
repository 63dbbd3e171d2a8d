"""Readers of the formats that weights are published in; each gives a `ForeignFile`."""
