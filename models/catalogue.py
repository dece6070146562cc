"""The models that this repository serves. A new model is one entry here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_torchserve import Model, Weights
from pytest_torchserve.answers import Tolerance

_MODELS = Path(__file__).parent
_HANDLERS = _MODELS.parent / "handlers"
_REFERENCE = _MODELS / "reference"
_DENSE_BLOCK = _MODELS / "densenet161_block.py"
_BLOCK = _MODELS / "resnet56_block.py"

DENSENET161 = Model(
    name="densenet161",
    network=_MODELS / "densenet161.py",
    handler=_HANDLERS / "imagenet.py",
    extra_files=(_HANDLERS / "classifier.py", _DENSE_BLOCK),
    reference=_REFERENCE / "imagenet.py",
    dataset="imagenet",
    weights=Weights(
        file="densenet161-8d451a50.pth",
        source="torchvision:DenseNet161_Weights.IMAGENET1K_V1",
    ),
)

RESNET56 = Model(
    name="resnet56",
    network=_MODELS / "resnet56.py",
    handler=_HANDLERS / "cifar10.py",
    extra_files=(_HANDLERS / "classifier.py", _BLOCK),
    reference=_REFERENCE / "cifar10.py",
    dataset="cifar10",
    weights=Weights(
        file="resnet56-4bfd9763.th",
        source="https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/resnet56-4bfd9763.th",
    ),
)

NOOP = Model(
    name="noop",
    handler=_HANDLERS / "noop.py",
    reference=_REFERENCE / "noop.py",
    dataset="cifar10",
    computes=False,
)

DENSENET161_STOCK = replace(
    DENSENET161, name="densenet161-stock", handler="image_classifier", extra_files=(_DENSE_BLOCK,), extra=True
)
"""The same network behind TorchServe's own handler, untouched."""

RESNET56_STOCK = replace(
    RESNET56, name="resnet56-stock", handler=_HANDLERS / "stock_cifar10.py", extra_files=(_BLOCK,), extra=True
)
"""The same behind TorchServe's own handler without its resize and crop."""

DENSENET161_GRAPH = replace(
    DENSENET161,
    name="densenet161-graph",
    handler=_HANDLERS / "graphed_imagenet.py",
    extra_files=(
        *(_HANDLERS / name for name in ("classifier.py", "imagenet.py", "graphed.py", "pillow_resize.py")),
        _DENSE_BLOCK,
    ),
    extra=True,
    devices=("gpu",),
)
"""JPEGs decoded and resized on the GPU, the network replayed as a CUDA graph, in float32 without TF32."""

RESNET56_GRAPH = replace(
    RESNET56,
    name="resnet56-graph",
    handler=_HANDLERS / "graphed_cifar10.py",
    extra_files=(*(_HANDLERS / name for name in ("classifier.py", "cifar10.py", "graphed.py")), _BLOCK),
    extra=True,
    devices=("gpu",),
)
"""The network replayed as a CUDA graph, in float32 without TF32."""

_BF16 = {"config": {"precision": "bfloat16"}, "tolerance": Tolerance(0.1, 0.1)}

DENSENET161_BF16 = replace(DENSENET161_GRAPH, name="densenet161-bf16", **_BF16)
"""The same in bfloat16, eight bits of mantissa: its answers are held to a tolerance of their own."""

RESNET56_BF16 = replace(RESNET56_GRAPH, name="resnet56-bf16", **_BF16)
"""The same in bfloat16."""

VARIANTS = (
    DENSENET161_STOCK,
    RESNET56_STOCK,
    DENSENET161_GRAPH,
    RESNET56_GRAPH,
    DENSENET161_BF16,
    RESNET56_BF16,
)
"""The models again with something changed: measured by the tests that name them."""
