"""The handlers for a GPU answer as the plain ones do: on a CPU, where they run without graphs."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


def picture(width, height, mode="RGB", kind="JPEG", **options):
    """Return an encoded picture of noise."""
    from PIL import Image  # noqa: PLC0415 - the session needs none

    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    noise = random.Random(width * height).randbytes(width * height * channels)
    file = io.BytesIO()
    Image.frombytes(mode, (width, height), noise).save(file, kind, **options)
    return file.getvalue()


def served(handlers, tmp_path, module, name, network, *, config=None, batch_size=4):
    """Return a handler that TorchServe's worker would have initialized, and the statuses that it sets."""
    import torch  # noqa: PLC0415 - the session needs none

    torch.manual_seed(0)
    file = handlers(network.lower())
    torch.save(getattr(file, network)().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "index_to_name.json").write_text(json.dumps({str(index): str(index) for index in range(1000)}))
    statuses = {}
    context = SimpleNamespace(
        system_properties={"gpu_id": None, "model_dir": str(tmp_path), "batch_size": batch_size},
        manifest={"model": {"modelFile": f"{network.lower()}.py", "serializedFile": "weights.pt"}},
        model_yaml_config=config or {},
        set_response_status=lambda code, phrase, idx: statuses.update({idx: code}),
    )
    handler = getattr(handlers(module), name)()
    handler.initialize(context)
    return handler, context, statuses


@pytest.mark.parametrize(
    ("plain", "graphed", "network", "bodies", "suitable"),
    [
        (
            ("cifar10", "Cifar10"),
            ("graphed_cifar10", "GraphedCifar10"),
            "ResNet56",
            [picture(32, 32, kind="PNG"), picture(32, 32, "RGBA", "PNG"), picture(32, 32, "L", "PNG"), picture(32, 32)],
            [True, False, False, False, False],
        ),
        (
            ("imagenet", "ImageNet"),
            ("graphed_imagenet", "GraphedImageNet"),
            "DenseNet161",
            [picture(500, 375), picture(300, 620), picture(40, 30, "L"), picture(300, 300, kind="PNG")],
            [True, True, True, False, False],
        ),
    ],
)
def test_a_graphed_handler_answers_as_the_plain_one(handlers, tmp_path, plain, graphed, network, bodies, suitable):
    """Each batch, with odd pictures or with one that is broken, gets the plain handler's tensors and answers."""
    one, context, _ = served(handlers, tmp_path, *plain, network)
    other, other_context, statuses = served(handlers, tmp_path, *graphed, network)
    cut = bodies[0][: len(bodies[0]) // 2]
    assert [other.suitable(body) for body in (*bodies, b"no picture")] == suitable
    assert other.suitable(cut) is (network == "ResNet56")  # libpng tells that one was cut off; nvJPEG would fill it up
    for batch in (bodies[:1], bodies, [cut, bodies[0]], [b"no picture"]):
        data = [{"body": bytearray(body)} for body in batch]
        wanted, found = one.preprocess(data), other.preprocess(data)
        assert wanted.shape == found.shape
        assert not len(wanted) or float((wanted - found).abs().max()) < 1e-5
        answers, others = one.handle(data, context), other.handle(data, other_context)
        assert [list(answer) for answer in answers] == [list(answer) for answer in others]
    assert statuses == {0: 400}


@pytest.mark.parametrize(
    ("mode", "options", "full"),
    [
        ("RGB", {"subsampling": 0}, True),
        ("RGB", {"subsampling": 0, "progressive": True}, True),
        ("RGB", {"subsampling": 1}, False),
        ("RGB", {"subsampling": 2}, False),
        ("RGB", {"subsampling": 2, "progressive": True}, False),
        ("L", {}, False),
    ],
)
def test_colours_of_half_the_resolution_are_decoded_on_the_cpu(handlers, tmp_path, mode, options, full):
    """NvJPEG enlarges them unlike Pillow, which put 32 of 148 answers out of tolerance; every pixel stays Pillow's."""
    import torch  # noqa: PLC0415 - the session needs none
    from PIL import Image  # noqa: PLC0415

    handler, _, _ = served(handlers, tmp_path, "graphed_imagenet", "GraphedImageNet", "DenseNet161")
    on_device, decoded = [], handler._decoded
    handler._decoded = lambda bodies: (on_device.extend(bodies), decoded(bodies))[1]
    body, usual = picture(300, 260, mode, **options), picture(280, 300, subsampling=0)
    tensors = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in (body, usual, body)]
    found = handler.decoded(tensors)
    assert len(on_device) == (3 if full else 1)
    plain = handlers("imagenet").ImageNet()
    for image, one in zip(found, (body, usual, body), strict=True):
        with Image.open(io.BytesIO(one)) as opened:
            assert torch.equal(image, plain.pixels(opened.convert("RGB")))


def test_half_precision_is_the_archives_choice(handlers, tmp_path):
    """`precision` of model-config.yaml makes a network of bfloat16, whose answers stay near."""
    import torch  # noqa: PLC0415 - the session needs none

    plain, context, _ = served(handlers, tmp_path, "cifar10", "Cifar10", "ResNet56")
    half, other_context, _ = served(
        handlers, tmp_path, "graphed_cifar10", "GraphedCifar10", "ResNet56", config={"precision": "bfloat16"}
    )
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    data = [{"body": picture(32, 32, kind="PNG")}]
    ((label, wanted),) = plain.handle(data, context)[0].items()
    assert half.handle(data, other_context)[0] == {label: pytest.approx(wanted, abs=0.02)}


@pytest.mark.parametrize("seed", range(8))
def test_a_resize_is_pillows_bit_for_bit(handlers, seed):
    """Whatever the picture's size, tall and small ones included, each pixel is the one that Pillow gives."""
    import torch  # noqa: PLC0415 - the session needs none
    from PIL import Image  # noqa: PLC0415
    from torchvision.transforms import functional  # noqa: PLC0415

    chance = random.Random(seed)
    width, height = (chance.randrange(30, 700) for _ in range(2))
    image = Image.frombytes("RGB", (width, height), chance.randbytes(3 * width * height))
    wanted = functional.pil_to_tensor(functional.center_crop(functional.resize(image, 256), 224))
    found = handlers("pillow_resize").resize_and_crop(functional.pil_to_tensor(image), 256, 224)
    assert torch.equal(wanted, found)
