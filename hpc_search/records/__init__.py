"""Codecs of everything that a run keeps: pure functions between values and bytes."""
