"""Comparison of a candidate with its baseline."""
