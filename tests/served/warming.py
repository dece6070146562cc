"""A handler that loads, moves and warms up its model when it starts, and times each part by its own clock."""

import time

SLEEP_S = {"load": 0.02, "to_device": 0.01, "warm_up": 0.05}


class Warming:
    """A handler without a method for its load; its warm-up moves something to the device once more."""

    def initialize(self, context):
        """Load, move and warm up; each part sleeps."""
        self.slept_s = {}
        self._sleep("load")
        self.to_device()
        self.warm_up()

    def _sleep(self, part):
        start_ns = time.monotonic_ns()
        time.sleep(SLEEP_S[part])
        self.slept_s[part] = self.slept_s.get(part, 0.0) + (time.monotonic_ns() - start_ns) / 1e9

    def to_device(self):
        """Sleep for 10 ms."""
        self._sleep("to_device")

    def warm_up(self):
        """Sleep for 50 ms, then move something to the device."""
        self._sleep("warm_up")
        self.to_device()

    def handle(self, data, context):
        """Compute nothing."""
        return [{"any": 0.0} for _ in data]
