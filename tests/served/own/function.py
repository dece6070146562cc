"""A handler that is a function, as TorchServe's documentation begins: the call without data loads a global model."""

import io
from pathlib import Path

import torch

network = None


def predict(data, context):
    """Answer each body, a tensor saved by torch, with the number of its largest output."""
    global network  # noqa: PLW0603 - as such handlers do
    if not data:
        folder = context.system_properties["model_dir"]
        network = torch.jit.load(Path(folder) / context.manifest["model"]["serializedFile"])
        return None
    batch = torch.stack([torch.load(io.BytesIO(request["body"]), weights_only=True) for request in data])
    with torch.inference_mode():
        return network(batch).argmax(dim=1).tolist()
