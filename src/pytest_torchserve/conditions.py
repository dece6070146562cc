"""Conditions, besides machine and versions, that decide speed: variables, share of the processors, kernel settings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_torchserve._util import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PREFIXES = (
    # threads and kernels of the numeric libraries
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NVPL_", "VECLIB_", "NUMEXPR_", "NUMBA_"),
    *("ONEDNN_", "DNNL_", "IPEX_", "ATEN_", "TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_"),
    *("CUDA_", "CUBLAS_", "CUBLASLT_", "CUDNN_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCR_", "MIOPEN_"),
    # memory
    *("MALLOC_", "MIMALLOC_", "JEMALLOC_", "TCMALLOC_"),
    "TOKENIZERS_",
)
_NAMES = {
    *("GLIBC_TUNABLES", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_BIND_NOW", "LD_AUDIT", "_RJEM_MALLOC_CONF"),
    *("THP_MEM_ALLOC_ENABLE", "LRU_CACHE_CAPACITY", "DISABLE_ADDMM_CUDA_LT"),
    # each worker's Python, coverage tracers and profilers included
    *("PYTHONMALLOC", "PYTHONMALLOCSTATS", "PYTHONOPTIMIZE", "PYTHONHASHSEED", "PYTHON_GIL", "PYTHON_JIT"),
    *("PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME", "PYTHONPERFSUPPORT", "PYTHON_CPU_COUNT"),
    *("PYTHONASYNCIODEBUG", "PYTHONDONTWRITEBYTECODE", "PYTHONDUMPREFS", "COVERAGE_PROCESS_START", "COV_CORE_SOURCE"),
    # the frontend's JVM
    *("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"),
}
# Left out: locations of files, build settings and product names do not decide speed, and may name home folders.
_PLACES = re.compile(r"_(HOME|DIR|PATH|ROOT|FILE|PREFIX)$|_(BUILD|REQUIRE|PRODUCT)_")
_DEVICE = re.compile(r"\b(GPU|MIG)-[0-9a-f-]{8,}")  # names one device of many of its kind
_CPU = "devices/system/cpu"
_KERNEL = {
    "transparent_hugepage": "kernel/mm/transparent_hugepage/enabled",
    "smt": f"{_CPU}/smt/active",
    "boost": f"{_CPU}/cpufreq/boost",
    "no_turbo": f"{_CPU}/intel_pstate/no_turbo",
}


def now() -> dict[str, Any]:
    """Return the conditions of this process, which the server inherits, in the form of `machine_info`."""
    return {
        "environment_variables": variables(os.environ),
        "cpu_affinity": ranges(os.sched_getaffinity(0)),
        "cpu_quota": cpu_quota(),
        "memory_limit": memory_limit(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "kernel_settings": kernel_settings(),
    }


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that decide speed, with values that may be shown."""
    home = environ.get("HOME", "")
    return {name: _shown(name, environ[name], home) for name in sorted(environ) if _decides_speed(name)}


def _decides_speed(name: str) -> bool:
    return name in _NAMES or (name.startswith(_PREFIXES) and not _PLACES.search(name))


def _shown(name: str, value: str, home: str) -> str:
    """Return a value with its secrets masked, the home folder as `~`, and without the identifier of a single GPU."""
    if home.strip("/"):
        value = re.sub(rf"(?<![\w.-]){re.escape(home.rstrip('/'))}(?![\w.-])", "~", value)
    return _DEVICE.sub(r"\1-…", mask.value(name, value))


def set_since(before: Mapping[str, Any]) -> list[str]:
    """Return the names of variables that have changed since `now` was called: their earlier values are recorded."""
    then, today = before["environment_variables"], variables(os.environ)
    return sorted(name for name in then.keys() | today.keys() if then.get(name) != today.get(name))


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as `0-1,4`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, ends)) for ends in found)


_CGROUPS = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
"""The file that names this process's control groups, and the folder that they are mounted in."""

_NUMBER = "[0-9]{1,19}"
"""A regular expression for the numbers of the kernel, which have 64 bits."""

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 of control groups writes a number about as large as this where there is no limit."""


def cpu_quota(told: Path = _CGROUPS[0], mounted: Path = _CGROUPS[1]) -> float | None:
    """Return the CPU quota of this process's control groups, in cores; None where no group sets a limit."""
    limits = [limit for folder in _groups("cpu", told, mounted) if (limit := _cores(folder)) is not None]
    return round(min(limits), 3) if limits else None


def memory_limit(told: Path = _CGROUPS[0], mounted: Path = _CGROUPS[1]) -> int | None:
    """Return the memory limit of this process's control groups, in bytes; None where no group sets a limit.

    Beyond `memory.high` a group is slowed down, beyond `memory.max` its processes are killed: the lower one counts.
    """
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    texts = [_read(folder / name) for folder in _groups("memory", told, mounted) for name in names]
    limits = [int(text) for text in texts if re.fullmatch(_NUMBER, text) and int(text) < _NO_LIMIT_BYTES]
    return min(limits, default=None)


def _groups(controller: str, told: Path, mounted: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups that may limit a resource, parents included."""
    for line in _read(told).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not path or (controllers and controller not in controllers.split(",")):
            continue
        # cgroup v2 has one tree, listed without controllers; cgroup v1 has one tree for each controller.
        for top in (mounted, mounted / "unified") if not controllers else (mounted / controller, mounted / controllers):
            # In a container without a tree of its own, the path is the host's, and the top is the container's group.
            yield from dict.fromkeys([top, *(top / part for part in _prefixes(path))])


def _prefixes(path: str) -> list[str]:
    """Return `a`, `a/b`, `a/b/c` for `/a/b/c`: a group's limit also holds for the groups inside."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts)) if parts[0]]


def _cores(group: Path) -> float | None:
    """Return one group's own CPU limit in cores; None where the group sets none."""
    words = _read(group / "cpu.max") or f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}"
    found = re.fullmatch(rf"({_NUMBER}) ({_NUMBER})", words)
    quota, period = (int(found[1]), int(found[2])) if found else (0, 0)
    return quota / period if quota and period else None


def governors(top: Path = Path("/sys")) -> set[str]:
    """Return the processors' frequency governors; an empty set where the kernel lists none."""
    return {_read(path) for path in (top / _CPU).glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}


def kernel_settings(top: Path = Path("/sys")) -> dict[str, str]:
    """Return the kernel's settings that decide speed, as far as they can be read."""
    found = {name: _read(top / file) for name, file in _KERNEL.items()}
    found["governor"] = ",".join(sorted(governors(top)))
    chosen = {name: re.search(r"\[(\w+)\]", text) for name, text in found.items()}  # one of several: always [madvise]
    return {name: match[1] if (match := chosen[name]) else text for name, text in found.items() if text}


def _read(path: Path) -> str:
    """Return a file's text without surrounding white space; '' where the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
