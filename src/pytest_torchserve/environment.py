"""The machine and the software that the figures come from."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_torchserve.errors import InputError


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as nvidia-smi names it. TorchServe counts GPUs with nvidia-smi as well."""

    name: str
    driver: str


def version(distribution: str) -> str | None:
    """Return the installed version, or None; the distribution is not imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs of this machine, and the reason in words why there are none ('' where there are some)."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return (), "nvidia-smi was not found on PATH (TorchServe looks for GPUs with it)"
    query = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"nvidia-smi does not answer: {error}"
    if answer.returncode != 0:
        return (), f"nvidia-smi failed: {(answer.stdout or answer.stderr).strip().splitlines()[:1]}"
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
    found = tuple(Gpu(name=row[0], driver=row[1]) for row in rows if len(row) == 2)  # noqa: PLR2004 - as queried
    return found, "" if found else "nvidia-smi lists no GPU"


def cpu_model() -> str:
    """Return the CPU's name as the kernel spells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


METHOD_VERSION = 2
"""The version of how figures are made. It is raised only with a change of the suite that changes figures of unchanged
code: what a phase contains, how a cell is warmed up, which samples count. Runs of two versions are not compared."""

_DECISIVE = ("torchserve", "torch", "torchvision", "numpy", "pillow")
_LIBRARIES = (
    # decoding of images, sound, video, text and tables
    *("pillow-simd", "opencv-python", "opencv-python-headless", "opencv-contrib-python", "simplejpeg", "PyTurboJPEG"),
    *("imageio", "scikit-image", "albumentations", "kornia", "torchaudio", "soundfile", "librosa", "av", "decord"),
    *("torchcodec", "transformers", "tokenizers", "sentencepiece", "torchtext", "nltk", "spacy", "orjson", "ujson"),
    *("pandas", "polars", "pyarrow", "pydicom", "nibabel"),
    # computing
    *("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "torch-tensorrt", "intel-extension-for-pytorch"),
    *("xformers", "flash-attn", "bitsandbytes", "accelerate", "diffusers", "timm", "ultralytics", "vllm", "deepspeed"),
    *("scikit-learn", "xgboost", "lightgbm", "catboost", "torch-geometric"),
)
"""Libraries that handlers decode and compute with; those that are installed are recorded."""

_OURS = ("torch-model-archiver", "pytest-torchserve")
_ASK = """
import sys
sys.path.pop(0)  # the working folder, whose files may be called like modules
import json, platform
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
decisive, libraries = (names.split() for names in sys.argv[1:])
found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
found |= {name: version(name) for name in decisive}
found["libraries"] = {name: told for name in libraries if (told := version(name))}
try:
    from PIL import features
except ImportError:
    pass
else:
    # Pillow's wheels bring these; a distribution's Pillow takes the system's.
    parts = {"jpeg": features.version("jpg"), "libjpeg-turbo": features.version("libjpeg_turbo")}
    parts |= {"zlib": features.version("zlib"), "webp": features.version("webp")}
    found["libraries"] |= {f"pillow's {name}": told for name, told in parts.items() if told}
print(json.dumps(found))
"""


def software(python: Path | None = None) -> dict[str, Any]:
    """Return the versions that decide speed, by distribution, and Python's.

    Args:
        python: the interpreter that serves the models; None for this one.
    """
    return _software_of(python or Path(sys.executable)) | {name.replace("-", "_"): version(name) for name in _OURS}


@cache
def _software_of(python: Path) -> dict[str, Any]:
    """Return the versions in an environment, told by its own interpreter: Pillow's parts are known to Pillow alone."""
    command = [str(python), "-c", _ASK, " ".join(_DECISIVE), " ".join(_LIBRARIES)]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            wanted=f"the versions of what {python} has installed",
            found=getattr(error, "stderr", "") or str(error),
            do="see that this interpreter starts, or name another",
        ) from error
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def machine() -> dict[str, object]:
    """Return CPU and GPU by model: pytest-benchmark's own `machine_info` names neither reliably."""
    found, reason = gpus()
    return {
        "cpu_model": cpu_model(),
        "cpu_count": os.cpu_count(),
        "gpu_models": [gpu.name for gpu in found],
        "gpu_driver": found[0].driver if found else None,
        "gpu_absent_because": reason or None,
    }


def worker_advice(gpu_count: int, model_count: int) -> str:
    """Apply TorchServe's documented rule for workers to this machine (its performance guide: GPUs ÷ models)."""
    if not gpu_count:
        return "no GPU here: TorchServe's rule (workers = GPUs ÷ models) says nothing; workers share the CPU's cores"
    workers = max(1, gpu_count // max(1, model_count))
    return f"{gpu_count} GPUs ÷ {model_count} models served together: {workers} workers for each model"
