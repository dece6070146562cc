"""Clean weights, labels and golden answers of one model: the only module of the harness that imports torch.

`prepare` runs this module in a process of its own. `make` writes `weights` (a plain state dict), `labels` (index →
name) and `golden` (an answer for each sample) to the paths in the request (`model_inputs.PreparationRequest`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_SEED = 20151210
_CALIBRATION = 8
_SCALES = tuple(2.0**power for power in range(9))
_FEWEST = 8
_CHUNK = 16
_SCALED_ON = 32


@contextmanager
def beside(folders: Sequence[str]) -> Iterator[None]:
    """Let files of these folders import each other, as in an archive; forget their modules afterwards.

    Two models may have modules of the same name.
    """
    sys.path[:0] = folders
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(file, str) and any(Path(file).is_relative_to(folder) for folder in folders):
                del sys.modules[name]


def load_file(path: str) -> ModuleType:
    """Import a source file under its own name, from wherever it lies."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        message = f"{path} is no Python file"
        raise ImportError(message)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_class(module: ModuleType) -> type[torch.nn.Module]:
    """Return the only public class that the network's file defines."""
    public = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if len(public) != 1:
        message = f"{module.__name__}: wanted one public class, found {[value.__name__ for value in public]}"
        raise ValueError(message)
    return public[0]


def seeded(network: torch.nn.Module, images: torch.Tensor, tolerance: float) -> None:
    """Adjust a network's random weights so that its answers to these images differ.

    A deep network with new random weights gives nearly the same answer to every image. Therefore the batch norms
    get the statistics of the first few images, and the last linear layer is centred on the images and scaled so
    that as many answers as possible differ from all others by more than 20 × the tolerance. Every step is
    deterministic.
    """
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = None  # cumulative: one pass sets the statistics outright
        norm.reset_running_stats()
    with torch.no_grad():
        network.train()(images[:_CALIBRATION])
        network.eval()
        last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        logits = network(images)
        centre = logits.mean(dim=0)
        apart = {
            scale: len(distinct(torch.softmax(scale * (logits - centre), dim=1), 20 * tolerance)) for scale in _SCALES
        }
        scale = max(_SCALES, key=lambda one: (apart[one], -one))
        last.bias.sub_(centre)
        last.weight.mul_(scale)
        last.bias.mul_(scale)


def distinct(probabilities: torch.Tensor, gap: float) -> list[int]:
    """Return the rows to keep so that any two kept rows differ somewhere by more than `gap`; earlier rows win."""
    kept: list[int] = []
    for index, row in enumerate(probabilities):
        if not kept or (probabilities[kept] - row).abs().amax(dim=1).min() > gap:
            kept.append(index)
    return kept


def load_weights(path: Path) -> Any:
    """Return what a file of weights holds: safetensors, a TorchScript network's state, or anything saved by torch."""
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file as load  # noqa: PLC0415 - not needed otherwise
        except ModuleNotFoundError as error:
            message = f"{path.name} is a safetensors file: install safetensors, or save it with torch.save"
            raise ValueError(message) from error
        return load(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            scripted = any("/code/" in name for name in file.namelist())
        if scripted:
            return torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        message = (
            f"wanted weights in {path.name} (a state dict, a checkpoint with one, TorchScript or safetensors); found a "
            "file that is damaged, or a whole pickled network, which would run code; save network.state_dict() instead"
            f": {str(error).splitlines()[0]:.200}"
        )
        raise ValueError(message) from None


def state_dict(loaded: Any) -> dict[str, torch.Tensor]:
    """Return the state dict in what was loaded: itself, or the only one in a checkpoint.

    Raises:
        ValueError: it is none, and holds none or several; the message names what it holds.
    """
    if _is_state(loaded):
        return dict(loaded)
    inner = [value for value in loaded.values() if _is_state(value)] if isinstance(loaded, dict) else []
    if len(inner) != 1:
        held = f"a mapping with {', '.join(map(repr, loaded))}" if isinstance(loaded, dict) else type(loaded).__name__
        message = f"wanted a state dict (name → tensor); found {held}; define from_published(loaded) beside the network"
        raise ValueError(message)
    return dict(inner[0])


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(one, torch.Tensor) for one in value.values())


def build_network(request: dict[str, Any], reference: ModuleType) -> torch.nn.Module | None:
    """Return the network with its weights, ready to answer, and write the weights as a plain state dict."""
    if request["network"] is None:
        return None
    module = load_file(request["network"])
    torch.manual_seed(_SEED)
    network = network_class(module)().eval()
    if request["published"] is not None:
        published = load_weights(Path(request["published"]))
        convert = getattr(module, "from_published", state_dict)
        network.load_state_dict(convert(published))
    else:
        bodies = [Path(path).read_bytes() for path in request["samples"][:_SCALED_ON]]
        seeded(network, torch.cat([reference.tensor(body) for body in bodies]), request["tolerance"])
    state = {name: value.clone() for name, value in network.state_dict().items()}
    partial = f"{request['weights']}.{os.getpid()}"
    torch.save(state, partial)
    Path(partial).replace(request["weights"])
    return network


def true_labels(request: dict[str, Any], labels: tuple[str, ...]) -> list[str | None]:
    """Return each sample's label: its class folder's name, or by the data set's index (ImageNet's WordNet ids)."""
    by_folder: dict[str, str] = {name: name for name in labels}
    if request["index"] is not None:
        index = json.loads(Path(request["index"]).read_text(encoding="utf-8"))
        by_folder |= {entry[0]: labels[int(number)] for number, entry in index.items() if int(number) < len(labels)}
    return [None if folder is None else by_folder.get(folder) for folder in request["classes"]]


def make(request: dict[str, Any]) -> None:
    """Write the weights, labels and golden answers of a request."""
    with beside(request["folders"]):
        _make(request)


def _make(request: dict[str, Any]) -> None:
    reference = load_file(request["reference"])
    labels = tuple(getattr(reference, "LABELS", ()))
    network = build_network(request, reference)
    _write(request["labels"], dict(enumerate(labels)))  # after the weights: a file of labels means that both exist
    bodies = [Path(path).read_bytes() for path in request["samples"]]
    chunks = (bodies[start : start + _CHUNK] for start in range(0, len(bodies), _CHUNK))
    answers = [answer for chunk in chunks for answer in reference.answers(network, chunk)]
    kept = list(range(len(answers)))
    if request["network"] is not None and request["published"] is None:
        # Seeded answers must differ from sample to sample: a sample whose answer is too close to another's is not sent.
        rows = torch.tensor([[answer[label] for label in labels] for answer in answers])
        kept = distinct(rows, 20 * request["tolerance"])
        if len(kept) < min(_FEWEST, len(answers)):
            message = f"seeded weights tell only {len(kept)} of {len(answers)} samples apart: swaps would go unseen"
            raise ValueError(message)
    golden = {"answers": answers, "kept": kept, "labels": true_labels(request, labels)}
    _write(request["golden"], golden)


def _write(path: str, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    partial = Path(f"{path}.{os.getpid()}")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
