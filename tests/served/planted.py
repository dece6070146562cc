"""A handler that waits 20 ms where the body of an earlier request asked it to: `plant:PLACE`."""

import time

from ts import service

DELAY_S = 0.02
PHASE_S = 0.005
_planted = {"at": ""}


def _wait(place):
    if _planted["at"] == place:
        time.sleep(DELAY_S)


def _after(place, function):
    def waiting(*args, **kwargs):
        _wait(place)
        return function(*args, **kwargs)

    return waiting


class Planted:
    """Each phase takes 5 ms; more where a delay is planted: in the worker before and after `handle` as well."""

    def initialize(self, context):
        """Wrap what TorchServe's worker calls before and after the handler."""
        service.Service.retrieve_data_for_inference = staticmethod(
            _after("before", service.Service.retrieve_data_for_inference)
        )
        service.create_predict_response = _after("encoding", service.create_predict_response)
        context.metrics.add_time = _after("after", context.metrics.add_time)

    def preprocess(self, data):
        """Take 5 ms."""
        time.sleep(PHASE_S)
        _wait("preprocess")
        return data

    def inference(self, data):
        """Take 5 ms."""
        time.sleep(PHASE_S)
        _wait("inference")
        return data

    def postprocess(self, data):
        """Take 5 ms."""
        time.sleep(PHASE_S)
        _wait("postprocess")
        return data

    def handle(self, data, context):
        """Return how many requests the batch had; take a new place from a request that names one."""
        answers = self.postprocess(self.inference(self.preprocess(data)))
        body = bytes(data[0].get("body") or data[0].get("data") or b"")
        if body.startswith(b"plant:"):
            _planted["at"] = body.removeprefix(b"plant:").decode()
        return [{"size": len(answers)} for _ in answers]
