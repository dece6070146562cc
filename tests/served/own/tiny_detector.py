"""A network for the stock object detector: a list of images → a list of boxes, labels and scores."""

import torch
from torch import nn


class TinyDetector(nn.Module):
    """One box an image, as wide as the image is bright."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(100.0))

    def forward(self, images):
        """Return one detection for each image."""
        found = []
        for image in images:
            side = image.mean() * self.scale
            box = torch.stack([side * 0, side * 0, side, side])[None]
            found.append({"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])})
        return found
