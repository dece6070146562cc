"""A handler that is busy for a second: long enough for requests to wait behind it."""

import time


class Napper:
    """A handler that sleeps, then answers."""

    def initialize(self, context):
        """Load nothing."""

    def handle(self, data, context):
        """Sleep for a second, then answer the batch."""
        time.sleep(1.0)
        return [{"any": 0.0} for _ in data]
