"""DenseNet-161 for ImageNet: Huang et al. 2017 (arXiv:1608.06993), table 1, k = 48.

Without torchvision, of which it takes nothing but the names of the weights: importing torchvision takes a new worker as
long again as importing torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from densenet161_block import GROWTH, DenseBlock, Transition
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_BLOCKS = (6, 12, 36, 24)


class DenseNet161(nn.Module):
    """A network of 28,681,000 parameters. Images (N, 3, 224, 224) → logits (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        channels = 2 * GROWTH
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(channels))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        for number, layers in enumerate(_BLOCKS, 1):
            self.features.add_module(f"denseblock{number}", DenseBlock(channels, layers))
            channels += layers * GROWTH
            if number < len(_BLOCKS):
                self.features.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the thousand classes."""
        return self.classifier(functional.relu(self.features(x)).mean(dim=(2, 3)))


def from_published(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the published weights under torchvision's present names: `norm.1` is now `norm1`.

    The published file dates from a torchvision that allowed dots in names.
    """
    dotted = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
    return {dotted.sub(r"\1\2.", name): value for name, value in state_dict.items()}
