"""One session of measuring."""
