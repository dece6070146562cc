"""The parts of DenseNet-161, in a file of their own: a stock handler takes a network file with one class."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

GROWTH = 48
"""The channels that each layer adds: k in the paper."""

_BOTTLENECK = 4 * GROWTH


class Layer(nn.Module):
    """A bottleneck of 1×1 and a convolution of 3×3, each behind a norm and a ReLU (section 3, "DenseNet-B")."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, _BOTTLENECK, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK)
        self.conv2 = nn.Conv2d(_BOTTLENECK, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to the new channels, (N, 48, H, W)."""
        out = self.conv1(functional.relu(self.norm1(x)))
        return self.conv2(functional.relu(self.norm2(out)))


class DenseBlock(nn.Module):
    """Layers of which each sees the input and what all layers before it have added."""

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(f"denselayer{index + 1}", Layer(inputs + index * GROWTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, inputs + 48 × layers, H, W)."""
        for layer in self.children():
            x = torch.cat((x, layer(x)), dim=1)
        return x


class Transition(nn.Module):
    """Half the channels, and half the height and width: between two blocks (section 3, "DenseNet-C")."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, inputs/2, H/2, W/2)."""
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)
