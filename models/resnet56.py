"""ResNet-56 for CIFAR-10: He et al. 2015 (arXiv:1512.03385), section 4.2, n = 9, option A shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet56_block import Block
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


class ResNet56(nn.Module):
    """A network of 6n + 2 layers with n = 9: 853,018 parameters. Images (N, 3, 32, 32) → logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, stride=1)
        self.layer2 = self._stage(16, 32, stride=2)
        self.layer3 = self._stage(32, 64, stride=2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(8)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the ten classes."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean(dim=(2, 3)))


def from_published(checkpoint: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the published checkpoint's weights without the prefix `module.` in their names.

    The checkpoint was saved from a DataParallel, which adds the prefix.
    """
    return {name.removeprefix("module."): value for name, value in checkpoint["state_dict"].items()}
