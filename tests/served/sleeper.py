"""A handler that sleeps in its phases, and answers with how long it really slept, by its own clock."""

import time

SLEEP_S = {"preprocess": 0.003, "inference": 0.020, "postprocess": 0.001}


class Sleeper:
    """Each phase sleeps and keeps its own time, from its first line to its last."""

    def initialize(self, context):
        """Nothing to load."""
        self.slept_ns = {}

    def _sleep(self, phase):
        start_ns = time.monotonic_ns()
        time.sleep(SLEEP_S[phase])
        self.slept_ns[phase] = time.monotonic_ns() - start_ns

    def preprocess(self, data):
        """3 ms."""
        self._sleep("preprocess")
        return data

    def inference(self, data):
        """20 ms."""
        self._sleep("inference")
        return data

    def postprocess(self, data):
        """1 ms."""
        self._sleep("postprocess")
        return data

    def handle(self, data, context):
        """What was really slept, in nanoseconds."""
        self.postprocess(self.inference(self.preprocess(data)))
        return [dict(self.slept_ns) for _ in data]
