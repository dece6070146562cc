"""Sleeps in its phases, and logs by its own clock how long it really slept."""

import json
import time
from pathlib import Path

NAP_S = {"preprocess": 0.004, "inference": 0.031, "postprocess": 0.002}


class Odd:
    """Sleeps 4, 31 and 2 ms."""

    def initialize(self, context):
        """Find the log that model-config.yaml names."""
        self.log = Path(context.model_yaml_config["log"])

    def nap(self, phase):
        """Sleep, and note how long."""
        start_ns = time.monotonic_ns()
        time.sleep(NAP_S[phase])
        self.spent[phase] = time.monotonic_ns() - start_ns

    def preprocess(self, data):
        """Return the sizes of the bodies."""
        self.nap("preprocess")
        return [len(request["body"]) for request in data]

    def inference(self, sizes):
        """Return the sizes."""
        self.nap("inference")
        return sizes

    def postprocess(self, sizes):
        """Return the sizes in words."""
        self.nap("postprocess")
        return [f"{size} bytes" for size in sizes]

    def handle(self, data, context):
        """Return an answer for each request."""
        self.spent = {"size": len(data)}
        answers = self.postprocess(self.inference(self.preprocess(data)))
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(self.spent) + "\n")
        return answers
