"""Images to send: real images from class-named folders where there are some, else synthetic images."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import cache

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = {"cifar10": 1000, "imagenet": 32}
"""The most files of a data set to use: every file gets a golden answer, and densenet161 takes 0.3 s for each."""

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_EXPORT = """
import pathlib, sys
from torchvision.datasets import CIFAR10
root, out, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
images = CIFAR10(root, train=False, download=False)
for index in range(min(count, len(images))):
    image, label = images[index]
    folder = out / images.classes[label]
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{index:05}.png")
"""


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Image files of a data set, and their source.

    Attributes:
        source: `folder`, `torchvision` or `synthetic`; stored in every record.
        paths: the image files, ordered so that the first few cover many classes.
        classes: the name of each file's class folder; None for synthetic images.
        index: a file of class index → [folder name, label], where the data set has such a file.
    """

    source: str
    paths: tuple[Path, ...]
    classes: tuple[str | None, ...]
    index: Path | None = None


def find(dataset: str, data: Path | None) -> SampleFiles:
    """Return the samples of a data set: from `data`, else torchvision's CIFAR10 on disk, else synthetic."""
    if data is not None and not data.is_dir():
        raise InputError(
            wanted=f"a folder of samples at {data} (--ts-data or TS_DATA)",
            found="no such folder",
            do=f"name a folder that holds {dataset}/CLASS/IMAGE files, or leave the option out",
        )
    if data is not None and (data / dataset).is_dir():
        return _from_folder(data / dataset, LIMIT.get(dataset, 100))
    if dataset == "cifar10":
        for root in filter(None, (data, Path("data"))):
            if (root / "cifar-10-batches-py").is_dir():
                return _from_torchvision(root)
    return _synthetic(dataset)


def _from_folder(folder: Path, limit: int, source: str = "folder") -> SampleFiles:
    """Return a folder's images, one of each class in turn: the first n files cover as many classes as possible."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    listed = [sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGES) for path in classes]
    rounds = range(max(map(len, listed), default=0))
    paths = [files[turn] for turn in rounds for files in listed if turn < len(files)][:limit]
    if not paths:
        raise InputError(
            wanted=f"image files in class-named folders under {folder}",
            found=f"{len(classes)} folders and no image in them",
            do=f"arrange them as {folder.name}/CLASS/IMAGE.png, or leave --ts-data out",
        )
    index = folder / "index_to_name.json"
    return SampleFiles(
        source=source,
        paths=tuple(paths),
        classes=tuple(path.parent.name for path in paths),
        index=index if index.is_file() else None,
    )


def _from_torchvision(root: Path) -> SampleFiles:
    """Return torchvision's CIFAR10 test images, written once as the PNG files that a client would send."""
    batch = root / "cifar-10-batches-py" / "test_batch"
    out = cache.folder() / f"cifar10-{cache.key([batch, _EXPORT])}"
    with FileLock(out.with_suffix(".lock")):
        if not out.is_dir():
            partial = out.with_suffix(".partial")
            command = [sys.executable, "-c", _EXPORT, str(root), str(partial), str(LIMIT["cifar10"])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise InputError(
                    wanted=f"torchvision's CIFAR10 under {root}",
                    found=f"torchvision could not read it: {done.stderr.strip().splitlines()[-1:]}",
                    do="delete or mend that folder, or name another with --ts-data",
                )
            partial.rename(out)
    return _from_folder(out, LIMIT["cifar10"], source="torchvision")


def _synthetic(dataset: str) -> SampleFiles:
    """Return deterministic images: 32×32 PNG for cifar10, JPEG of a photograph's size for all else."""
    small = dataset == "cifar10"
    out = cache.folder() / f"synthetic-{dataset}-{cache.key([Path(__file__)])}"
    count = 64 if small else LIMIT["imagenet"]
    names = [f"{index:03}.{'png' if small else 'jpg'}" for index in range(count)]
    with FileLock(out.with_suffix(".lock")):
        if not out.is_dir():
            partial = out.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            for index, name in enumerate(names):
                (partial / name).write_bytes(image(index, (32, 32) if small else (500, 375)))
            partial.rename(out)
    paths = tuple(out / name for name in names)
    return SampleFiles(source="synthetic", paths=paths, classes=(None,) * len(paths))


def image(seed: int, size: Sequence[int]) -> bytes:
    """Return an encoded image: smooth blobs, a few flat shapes and some grain; a different image for each seed.

    The grain gives a JPEG about the size of a photograph's; decoding time depends on that size.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only where images are really made

    width, height = size
    rng = random.Random(seed)  # noqa: S311 - reproducible pictures, not secrets
    blobs = Image.frombytes("RGB", (5, 4), rng.randbytes(60)).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(blobs)
    for _ in range(4):
        left, top = rng.randrange(width), rng.randrange(height)
        box = (left, top, left + rng.randrange(4, width), top + rng.randrange(4, height))
        shape = rng.choice((draw.ellipse, draw.rectangle))
        shape(box, fill=tuple(rng.randbytes(3)))
    grain = Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3))
    picture = Image.blend(blobs, grain, 0.08)
    file = io.BytesIO()
    picture.save(file, "PNG" if width * height < 64 * 64 else "JPEG", quality=90)
    return file.getvalue()
