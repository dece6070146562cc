"""DenseNet-161 and its images are written without torchvision, and are torchvision's all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_densenet161_is_torchvisions(handlers):
    """Under the same weights, whose names and shapes are the same, both give the same logits."""
    import torch  # noqa: PLC0415 - the session needs none
    from torchvision import models  # noqa: PLC0415

    torch.manual_seed(7)
    theirs, ours = models.densenet161().eval(), handlers("densenet161").DenseNet161().eval()
    weights = theirs.state_dict()
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in weights.items()
    }
    for name, value in weights.items():  # a new norm's statistics are 0 and 1: any mistake with them would not show
        if name.endswith("running_mean"):
            value.uniform_(-0.5, 0.5)
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        wanted, found = theirs(images), ours(images)
    assert float(wanted.std()) > 0.01
    assert torch.allclose(wanted, found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size", [(224, 224), (256, 256), (257, 255), (300, 200), (200, 301), (31, 400), (1, 1), (1999, 1333), (256, 999)]
)
def test_the_pixels_are_torchvisions(handlers, size):
    """Each pixel is that of torchvision's resize and crop, whatever the image's shape."""
    import torch  # noqa: PLC0415 - the session needs none
    from PIL import Image  # noqa: PLC0415
    from torchvision.transforms import functional  # noqa: PLC0415

    noise = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    image = Image.fromarray(noise.numpy())
    wanted = functional.pil_to_tensor(functional.center_crop(functional.resize(image, 256), 224))
    assert torch.equal(handlers("imagenet").ImageNet().pixels(image), wanted)


def test_a_worker_of_densenet161_imports_no_torchvision():
    """Neither the handler nor the network needs it: it would take a new worker seconds."""
    code = "import sys, imagenet, densenet161; print([x for x in ('torch', 'torchvision') if x in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT / 'handlers'}:{ROOT / 'models'}"},
    )
    assert done.stdout.strip() == "['torch']"
