"""A TorchServe handler for an NVIDIA GPU: ImageNet classification, with JPEGs decoded and resized on the GPU."""

import torch
from graphed import Graphed
from imagenet import ImageNet
from pillow_resize import resize_and_crop
from torchvision.io import ImageReadMode, decode_jpeg

_MARKER, _COMPONENTS = 0xFF, 3
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # of ITU T.81, table B.1: the others are tables


class GraphedImageNet(Graphed, ImageNet):
    """Decode by nvJPEG, resize the short side to 256, crop the middle 224×224, answer with the top five."""

    side = 224

    def suitable(self, body):
        """Return whether this is a whole JPEG: nvJPEG would fill up one that was cut off."""
        return body.startswith(b"\xff\xd8") and body.endswith(b"\xff\xd9")

    def decoded(self, bodies):
        """Return the images after the usual crop of torchvision's ImageNet models.

        nvJPEG enlarges colours that are stored at half the resolution in another way than Pillow does, and is up to 45
        of 255 off: such images are decoded on the CPU, whose pixels are Pillow's, and resized on the GPU.
        """
        whole = [index for index, body in enumerate(bodies) if full_colour(bytes(body.numpy()))]
        images = dict(zip(whole, self._decoded([bodies[index] for index in whole]), strict=True))
        for index in range(len(bodies)):
            if index not in images:
                images[index] = decode_jpeg(bodies[index], mode=ImageReadMode.RGB).to(self.device)
        return torch.stack([resize_and_crop(images[index], 256, self.side) for index in range(len(bodies))])

    def _decoded(self, bodies):
        """Return the images of these JPEGs, decoded on the device."""
        return decode_jpeg(bodies, mode=ImageReadMode.RGB, device=self.device) if bodies else []


def full_colour(body):
    """Return whether a JPEG has three components, all stored at the same resolution (4:4:4), by its frame header."""
    at = 2
    while at + 10 < len(body) and body[at] == _MARKER:
        kind, length = body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
        if kind in _FRAMES:
            sampling = body[at + 11 : at + 11 + 3 * body[at + 9] : 3]
            return body[at + 9] == _COMPONENTS and len(set(sampling)) == 1
        at += 2 + length
    return False
