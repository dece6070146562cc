"""The expected answers of a CIFAR-10 classifier, straight from PyTorch and torchvision."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision import transforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_TO_TENSOR = transforms.Compose(
    [
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


def tensor(body: bytes) -> torch.Tensor:
    """Return an encoded 32×32 image as a tensor (1, 3, 32, 32)."""
    return _TO_TENSOR(Image.open(io.BytesIO(body)).convert("RGB")).unsqueeze(0)


def answers(network: nn.Module, bodies: Sequence[bytes]) -> list[dict[str, float]]:
    """Return every label's probability, for each body."""
    with torch.inference_mode():
        logits = network(torch.cat([tensor(body) for body in bodies]))
    rows = torch.softmax(logits, dim=1).tolist()
    return [dict(zip(LABELS, row, strict=True)) for row in rows]
