"""A handler that sleeps in its phases, and answers with the time that it really slept, by its own clock."""

import time

SLEEP_S = {"preprocess": 0.003, "inference": 0.020, "postprocess": 0.001}


class Sleeper:
    """A handler whose phases sleep; each keeps its own time, from its first line to its last."""

    def initialize(self, context):
        """Load nothing."""
        self.slept_ns = {}

    def _sleep(self, phase):
        start_ns = time.monotonic_ns()
        time.sleep(SLEEP_S[phase])
        self.slept_ns[phase] = time.monotonic_ns() - start_ns

    def preprocess(self, data):
        """Sleep for 3 ms."""
        self._sleep("preprocess")
        return data

    def inference(self, data):
        """Sleep for 20 ms."""
        self._sleep("inference")
        return data

    def postprocess(self, data):
        """Sleep for 1 ms."""
        self._sleep("postprocess")
        return data

    def handle(self, data, context):
        """Return the time that each phase really slept, in nanoseconds."""
        self.postprocess(self.inference(self.preprocess(data)))
        return [dict(self.slept_ns) for _ in data]
