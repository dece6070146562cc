"""A frozen TorchScript network: it has no parameter that could tell its device. The model sits in a dict."""

import io
from pathlib import Path

import torch


class Frozen:
    """Handles tensors with one of two networks."""

    __slots__ = ("networks",)

    def initialize(self, context):
        """Load the network."""
        folder = Path(context.system_properties["model_dir"])
        self.networks = {"main": torch.jit.load(folder / context.manifest["model"]["serializedFile"])}

    def preprocess(self, data):
        """Return the bodies as one tensor."""
        return torch.stack([torch.load(io.BytesIO(request["body"]), weights_only=True) for request in data])

    def inference(self, batch):
        """Return the outputs."""
        with torch.inference_mode():
            return self.networks["main"](batch)

    def handle(self, data, context):
        """Return each output as it is saved by torch: bytes."""
        answers = []
        for row in self.inference(self.preprocess(data)):
            file = io.BytesIO()
            torch.save((row * 100).round(), file)  # the last bits depend on the batch
            answers.append(file.getvalue())
        return answers
