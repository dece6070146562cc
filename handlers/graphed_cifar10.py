"""A TorchServe handler for an NVIDIA GPU: CIFAR-10 classification."""

import torch
from cifar10 import SIDE, Cifar10
from graphed import Graphed
from torchvision.io import ImageReadMode, decode_png

_PNG = b"\x89PNG\r\n\x1a\n"
_RGB_8 = b"\x08\x02"  # bit depth and colour type in the header


class GraphedCifar10(Graphed, Cifar10):
    """Decode by libpng without a detour over Pillow's images, copy all images at once."""

    side = SIDE

    def suitable(self, body):
        """Return whether this is a 32×32 PNG of 8-bit RGB."""
        size = int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big")
        return body.startswith(_PNG) and size == (SIDE, SIDE) and body[24:26] == _RGB_8

    def decoded(self, bodies):
        """Return the images as they are."""
        images = torch.stack([decode_png(body, mode=ImageReadMode.RGB) for body in bodies])
        if self.device.type == "cuda":
            return images.pin_memory().to(self.device, non_blocking=True)
        return images
