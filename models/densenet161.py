"""DenseNet-161 for ImageNet: torchvision's (Huang et al. 2017, arXiv:1608.06993), as a class of its own.

TorchServe's stock handlers load the one class that a model file defines, and call it without arguments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchvision.models import DenseNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


class DenseNet161(DenseNet):
    """A network of 28,681,000 parameters. Images (N, 3, 224, 224) → logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__(growth_rate=48, block_config=(6, 12, 36, 24), num_init_features=96)


def from_published(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the published weights under torchvision's present names: `norm.1` is now `norm1`.

    The published file dates from a torchvision that allowed dots in names.
    """
    dotted = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
    return {dotted.sub(r"\1\2.", name): value for name, value in state_dict.items()}
