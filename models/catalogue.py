"""The models that this repository serves. A new model is one entry here."""

from __future__ import annotations

from pathlib import Path

from pytest_torchserve import Model, Weights

_MODELS = Path(__file__).parent
_HANDLERS = _MODELS.parent / "handlers"
_REFERENCE = _MODELS / "reference"

DENSENET161 = Model(
    name="densenet161",
    network=_MODELS / "densenet161.py",
    handler=_HANDLERS / "imagenet.py",
    extra_files=(_HANDLERS / "classifier.py",),
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
    extra_files=(_HANDLERS / "classifier.py",),
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

DENSENET161_STOCK = Model(
    name="densenet161-stock",
    network=DENSENET161.network,
    handler="image_classifier",
    reference=DENSENET161.reference,
    dataset=DENSENET161.dataset,
    weights=DENSENET161.weights,
    extra=True,
)
"""The same network behind TorchServe's own handler, untouched."""
