"""TorchServe handler: ImageNet classification, the five most probable labels."""

import numpy as np
import torch
from classifier import Classifier
from PIL import Image

SHORT_SIDE = 256
CROP = 224


class ImageNet(Classifier):
    """Resize the short side to 256, cut the middle 224×224, answer with the top five."""

    top = 5

    def pixels(self, image):
        """As torchvision's Resize and CenterCrop do it, on PIL: resize, then the centre."""
        width, height = image.size
        short = min(width, height)
        width, height = int(SHORT_SIDE * width / short), int(SHORT_SIDE * height / short)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, upper = round((width - CROP) / 2), round((height - CROP) / 2)
        image = image.crop((left, upper, left + CROP, upper + CROP))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
