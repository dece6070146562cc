"""The expected answers of an ImageNet classifier, straight from PyTorch and torchvision.

The preprocessing is torchvision's own, composed here and not shared with the handlers: a handler that
crops or normalises wrongly gives other probabilities than these.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import DenseNet161_Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

LABELS = tuple(DenseNet161_Weights.IMAGENET1K_V1.meta["categories"])

_TO_TENSOR = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


def tensor(body: bytes) -> torch.Tensor:
    """Return an encoded image as a tensor (1, 3, 224, 224)."""
    return _TO_TENSOR(Image.open(io.BytesIO(body)).convert("RGB")).unsqueeze(0)


def answers(network: nn.Module, bodies: Sequence[bytes]) -> list[dict[str, float]]:
    """Return every label's probability, for each body."""
    with torch.inference_mode():
        logits = network(torch.cat([tensor(body) for body in bodies]))
    rows = torch.softmax(logits, dim=1).tolist()
    return [dict(zip(LABELS, row, strict=True)) for row in rows]
