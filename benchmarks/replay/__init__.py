"""Searches replayed on real trials: what past experience of other tasks is worth."""
