"""A TorchServe handler for an NVIDIA GPU: ImageNet classification, with JPEGs decoded and resized on the GPU."""

import torch
from graphed import Graphed
from imagenet import ImageNet
from pillow_resize import resize_and_crop
from torchvision.io import ImageReadMode, decode_jpeg


class GraphedImageNet(Graphed, ImageNet):
    """Decode by nvJPEG, resize the short side to 256, crop the middle 224×224, answer with the top five."""

    side = 224

    def suitable(self, body):
        """Return whether this is a whole JPEG: nvJPEG would fill up one that was cut off."""
        return body.startswith(b"\xff\xd8") and body.endswith(b"\xff\xd9")

    def decoded(self, bodies):
        """Return the images after the usual crop of torchvision's ImageNet models."""
        images = decode_jpeg(bodies, mode=ImageReadMode.RGB, device=self.device)
        return torch.stack([resize_and_crop(image, 256, self.side) for image in images])
