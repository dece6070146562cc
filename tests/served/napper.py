"""A handler that is busy for a second: long enough for requests to wait behind it."""

import time


class Napper:
    """Sleeps, then answers."""

    def initialize(self, context):
        """Nothing to load."""

    def handle(self, data, context):
        """A second for each batch."""
        time.sleep(1.0)
        return [{"any": 0.0} for _ in data]
