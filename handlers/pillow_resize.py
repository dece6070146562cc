"""Pillow's bilinear resize with a crop, bit for bit, as two matrix products that any device computes.

A network's answers depend on each bit of its input, and torchvision's resize of tensors is off by one here and there.
Pillow (src/libImaging/Resample.c) weighs in fixed point, first along the rows, then along the columns, and rounds to
eight bits after each. Its integers stay below 2⁵³, so that float64 holds every sum exactly.
"""

import functools

import numpy as np
import torch
from torchvision.transforms import functional

_BITS = 22  # of Pillow's weights, behind the point
_TALL = 1.5
"""Newer Pillows (13) go along the columns first in some images twice as high as wide: such images it does itself."""


@functools.lru_cache(maxsize=512)
def _weights(length, resized, first, count, device):
    """Return the weights (count, length) of `count` pixels of an axis, from `first` on; float64, of whole numbers."""
    scale = length / resized
    support = max(scale, 1.0)
    centres = ((np.arange(first, first + count) + 0.5) * scale)[:, None]
    pixels = np.arange(length)[None]
    low = np.maximum(np.trunc(centres - support + 0.5), 0)
    high = np.minimum(np.trunc(centres + support + 0.5), length)
    triangle = np.maximum(1 - np.abs((pixels - centres + 0.5) * (1 / support)), 0)
    triangle[(pixels < low) | (pixels >= high)] = 0
    triangle /= np.cumsum(triangle, axis=1)[:, -1:]  # summed one after the other, as Pillow does
    return torch.from_numpy(np.trunc(triangle * (1 << _BITS) + 0.5)).to(device)


def _rounded(sums):
    return ((sums + (1 << (_BITS - 1))) / (1 << _BITS)).floor_().clamp_(0, 255)


def resize_and_crop(image, short, side):
    """Return the middle (3, side, side) of a uint8 image (3, H, W) whose short side was resized to `short`.

    As torchvision's `center_crop(resize(image, short), side)` of a Pillow image, for `side` ≤ `short`.
    """
    height, width = image.shape[1:]
    if height > _TALL * width:
        pillow = functional.center_crop(functional.resize(functional.to_pil_image(image.cpu()), short), side)
        return functional.pil_to_tensor(pillow).to(image.device)
    smaller = min(height, width)
    resized = [short if length == smaller else int(short * length / smaller) for length in (height, width)]
    (top, left) = (round((length - side) / 2.0) for length in resized)
    across = _weights(width, resized[1], left, side, image.device)
    down = _weights(height, resized[0], top, side, image.device)
    return _rounded(down @ _rounded(image.double() @ across.T)).to(torch.uint8)
