"""Whoever is told how far a longer piece of work has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is, or 0 where that is not known."""
