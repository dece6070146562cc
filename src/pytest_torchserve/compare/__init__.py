"""A candidate against its baseline."""
