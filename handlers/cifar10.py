"""A TorchServe handler: CIFAR-10 classification, the most probable of ten labels."""

import numpy as np
import torch
from classifier import Classifier

SIDE = 32


class Cifar10(Classifier):
    """A classifier of 32×32 images as they are; any other size is refused: the network was trained on none."""

    top = 1

    def pixels(self, image):
        """Return the pixels of a 32×32 image."""
        if image.size != (SIDE, SIDE):
            message = f"wanted {SIDE}×{SIDE} pixels, got {image.size[0]}×{image.size[1]}"
            raise ValueError(message)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
