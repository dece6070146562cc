"""The time that the probe adds to a batch: `python tools/qualify/probe_cost.py`.

Calls a handler that does nothing, bare and behind the probe in turn, with TorchServe's own Context and its encoding of
the answer: the cost of the probe's headers on the wire is included. Prints medians, in microseconds a batch.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ts.context import Context, RequestProcessor
from ts.protocol.otf_message_handler import create_predict_response

from pytest_torchserve.torchserve.payload import ts_probe

HANDLER = """
class Nothing:
    def initialize(self, context): pass
    def preprocess(self, data): return data
    def inference(self, data): return data
    def postprocess(self, data): return [b"ok"] * len(data)
    def handle(self, data, context):
        return self.postprocess(self.inference(self.preprocess(data)))
"""
ROUNDS = 20_000


def one_batch(entry, context, size):
    """Run one batch as TorchServe's Service.predict does, with fresh request processors; return its time in us.

    The time covers the handler and the encoding of the answer.
    """
    context.request_ids = {index: f"{index:036}" for index in range(size)}
    context.request_processor = [RequestProcessor({}) for _ in range(size)]
    data = [{}] * size
    start_ns = time.perf_counter_ns()
    answers = entry(data, context)
    create_predict_response(answers, context.request_ids, "Prediction success", 200, context=context)
    return (time.perf_counter_ns() - start_ns) / 1e3


def main():
    """Time the bare and the probed handler in turn, so that both meet the same conditions of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nothing_handler.py").write_text(HANDLER, encoding="utf-8")
        sys.path.insert(0, folder)
        settings = json.dumps({"model": {"handler": "nothing_handler.py"}})
        Path(folder, ts_probe.SETTINGS).write_text(settings, encoding="utf-8")
        context = Context("nothing", folder, {"model": {}}, 1, None, "0", model_yaml_config={})
        ts_probe.handle(None, context)
        unprobed = sys.modules["nothing_handler"].Nothing().handle
        for size in (1, 16):
            times = {"bare": [], "probed": []}
            for _ in range(ROUNDS):
                times["bare"].append(one_batch(unprobed, context, size))
                times["probed"].append(one_batch(ts_probe.handle, context, size))
            medians = {name: statistics.median(values) for name, values in times.items()}
            bare, probed = medians["bare"], medians["probed"]
            print(f"batch of {size:2}: {bare:.1f} us bare, {probed:.1f} us probed: {probed - bare:.1f} us more")


if __name__ == "__main__":
    main()
