"""The page with charts."""
