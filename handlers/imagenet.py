"""A TorchServe handler: ImageNet classification, the five most probable labels."""

import numpy as np
import torch
from classifier import Classifier
from PIL import Image

SHORT, SIDE = 256, 224


class ImageNet(Classifier):
    """Resize the short side to 256, crop the middle 224×224, answer with the top five."""

    top = 5

    def pixels(self, image):
        """Return the pixels after the usual crop of torchvision's ImageNet models, to the last bit.

        By Pillow alone: importing torchvision would take a new worker as long again as importing torch.
        """
        smaller = min(image.size)
        width, height = (SHORT if length == smaller else int(SHORT * length / smaller) for length in image.size)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        cropped = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
        return torch.from_numpy(np.array(cropped)).permute(2, 0, 1)
