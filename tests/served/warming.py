"""A handler that loads, moves and warms up its model when it starts, and keeps for how long by its own clock."""

import time

SLEEP_S = {"load": 0.02, "to_device": 0.01, "warm_up": 0.05}


class Warming:
    """Its load has no method of its own; its warm-up moves something to the device once more."""

    def initialize(self, context):
        """Each part sleeps."""
        self.slept_s = {}
        self._sleep("load")
        self.to_device()
        self.warm_up()

    def _sleep(self, part):
        start_ns = time.monotonic_ns()
        time.sleep(SLEEP_S[part])
        self.slept_s[part] = self.slept_s.get(part, 0.0) + (time.monotonic_ns() - start_ns) / 1e9

    def to_device(self):
        """10 ms."""
        self._sleep("to_device")

    def warm_up(self):
        """50 ms, and what it takes to move something."""
        self._sleep("warm_up")
        self.to_device()

    def handle(self, data, context):
        """Nothing to compute."""
        return [{"any": 0.0} for _ in data]
