"""A network for the stock segmenter: images (N, 3, H, W) → {"out": classes (N, 3, H, W)}."""

import torch
from torch import nn


class TinySegmenter(nn.Module):
    """The colour of each pixel, scaled, as its class."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images):
        """Return a value for each class and pixel."""
        return {"out": images * self.scale}
