"""The conditions of a run: settings that affect speed are recorded, other settings of the user are not."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pytest_torchserve import conditions, environment

DECIDE = """
OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_CPU_AFFINITY KMP_AFFINITY KMP_BLOCKTIME MKL_NUM_THREADS OPENBLAS_NUM_THREADS
BLIS_NUM_THREADS VECLIB_MAXIMUM_THREADS NUMEXPR_NUM_THREADS ONEDNN_MAX_CPU_ISA DNNL_VERBOSE ATEN_CPU_CAPABILITY
TORCH_COMPILE_DISABLE TORCHINDUCTOR_MAX_AUTOTUNE PYTORCH_CUDA_ALLOC_CONF CUDA_VISIBLE_DEVICES CUDA_LAUNCH_BLOCKING
CUBLAS_WORKSPACE_CONFIG CUDNN_LOGINFO_DBG NVIDIA_TF32_OVERRIDE MALLOC_ARENA_MAX MALLOC_CONF MIMALLOC_VERBOSE
_RJEM_MALLOC_CONF TCMALLOC_SAMPLE_PARAMETER GLIBC_TUNABLES THP_MEM_ALLOC_ENABLE LD_PRELOAD LD_LIBRARY_PATH LD_BIND_NOW
PYTHONMALLOC PYTHONOPTIMIZE PYTHONHASHSEED PYTHON_GIL PYTHONDEVMODE PYTHONPROFILEIMPORTTIME PYTHONDONTWRITEBYTECODE
JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS TOKENIZERS_PARALLELISM COVERAGE_PROCESS_START
"""
DO_NOT = """
HOME PATH USER PWD LANG SHELL EDITOR AWS_SECRET_ACCESS_KEY HF_TOKEN HF_HOME TORCH_HOME CUDA_HOME CUDA_PATH CUDA_ROOT
CUDNN_INCLUDE_DIR TORCH_EXTENSIONS_DIR TORCHINDUCTOR_CACHE_DIR PYTORCH_KERNEL_CACHE_PATH PYTORCH_BUILD_VERSION
NVIDIA_REQUIRE_CUDA NVIDIA_PRODUCT_NAME PYTHONPATH PYTHONUNBUFFERED JAVA_HOME MALLOCATION TORCHSERVE_X XOMP_NUM_THREADS
"""


@pytest.mark.parametrize("name", DECIDE.split())
def test_a_variable_that_decides_speed(name):
    """A variable that affects speed is recorded with its value."""
    assert conditions.variables({name: "1"}) == {name: "1"}


@pytest.mark.parametrize("name", DO_NOT.split())
def test_a_variable_that_decides_nothing(name):
    """A variable that does not affect speed is not recorded: its value may name a home directory."""
    assert conditions.variables({name: "1"}) == {}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("LD_PRELOAD", "/home/me/lib/a.so:/usr/lib/b.so", "~/lib/a.so:/usr/lib/b.so"),
        ("LD_LIBRARY_PATH", "/home/me", "~"),
        ("LD_LIBRARY_PATH", "/home/melanie/lib:/mnt/home/me/lib", "/home/melanie/lib:/mnt/home/me/lib"),
        ("JAVA_TOOL_OPTIONS", "-Xmx1g -Dmy.password=hunter2", "-Xmx1g -Dmy.password=***"),
        ("TORCH_ACCESS_TOKEN", "hunter2", "***"),
        ("CUDA_VISIBLE_DEVICES", "GPU-0a1b2c3d-0000-1111-2222-333344445555", "GPU-…"),
        ("CUDA_VISIBLE_DEVICES", "0,3", "0,3"),
    ],
)
def test_how_a_value_is_shown(name, value, shown):
    """A value is shown without secrets, without the home directory, and without the id of one of several equal GPUs."""
    assert conditions.variables({name: value, "HOME": "/home/me"}) == {name: shown}


@pytest.mark.parametrize("home", ["", "/"])
def test_without_a_home(home):
    """A value is shown as it is where HOME is empty or the root of all files, as a service's user may have it."""
    assert conditions.variables({"LD_PRELOAD": "/a/b.so", "HOME": home}) == {"LD_PRELOAD": "/a/b.so"}


@pytest.mark.parametrize(
    ("numbers", "text"), [({0, 1, 4}, "0-1,4"), ({3}, "3"), (range(128), "0-127"), ({1, 3, 5, 6, 7}, "1,3,5-7")]
)
def test_ranges(numbers, text):
    """Processor numbers are shown as ranges, which stay short however many processors there are."""
    assert conditions.ranges(numbers) == text


def write(folder, **files):
    """Create the folder and write the files with these contents; `__` in a file's name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def quota(tmp_path, told):
    """Return the CPU quota where /proc/self/cgroup has this content."""
    (tmp_path / "told").write_text(told)
    return conditions.cpu_quota(tmp_path / "told", tmp_path / "mounted")


def test_quota_of_version_2(tmp_path):
    """In cgroups version 2 the quota is the smallest limit of the group and its parents."""
    top = tmp_path / "mounted"
    write(top / "a" / "b", cpu__max="max 100000")
    assert quota(tmp_path, "0::/a/b\n") is None
    write(top / "a", cpu__max="150000 100000")
    assert quota(tmp_path, "0::/a/b\n") == 1.5
    write(top / "a" / "b", cpu__max="50000 100000")
    assert quota(tmp_path, "0::/a/b\n") == 0.5
    assert quota(tmp_path, "0::/\n") is None


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path, mount):
    """In cgroups version 1 the quota is read from another file, in the tree of the `cpu` controller only.

    In a container the group is the top of that tree.
    """
    top = tmp_path / "mounted"
    write(top / mount / "a", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(top / "cpuset" / "a", cpu__cfs_quota_us="1", cpu__cfs_period_us="100000")
    told = "5:cpuset:/a\n4:cpu,cpuacct:/a\n"
    assert quota(tmp_path, told) is None
    write(top / mount, cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert quota(tmp_path, told) == 2.5
    assert quota(tmp_path, "4:cpu,cpuacct:/docker/of/the/host\n") == 2.5


def test_without_control_groups(tmp_path):
    """Without control groups no limit is known."""
    assert conditions.cpu_quota(tmp_path / "none", tmp_path) is None


def memory(tmp_path, told):
    """Return the memory limit where /proc/self/cgroup has this content."""
    (tmp_path / "told").write_text(told)
    return conditions.memory_limit(tmp_path / "told", tmp_path / "mounted")


def test_memory_of_version_2(tmp_path):
    """The lowest limit of the group and its parents counts, also the one beyond which a group is only slowed down."""
    top = tmp_path / "mounted"
    write(top / "a" / "b", memory__max="max", memory__high="max")
    assert memory(tmp_path, "0::/a/b\n") is None
    write(top / "a", memory__max="8000000000")
    assert memory(tmp_path, "0::/a/b\n") == 8_000_000_000
    write(top / "a" / "b", memory__max="max", memory__high="5000000000")
    assert memory(tmp_path, "0::/a/b\n") == 5_000_000_000
    assert memory(tmp_path, "0::/\n") is None


def test_memory_of_version_1(tmp_path):
    """Version 1 writes a number about as large as an address space where there is no limit."""
    top = tmp_path / "mounted"
    write(top / "memory" / "a", memory__limit_in_bytes="9223372036854771712")
    write(top / "cpu" / "a", memory__limit_in_bytes="1")
    told = "5:cpu:/a\n4:memory:/a\n"
    assert memory(tmp_path, told) is None
    write(top / "memory", memory__limit_in_bytes="2000000000")
    assert memory(tmp_path, told) == 2_000_000_000
    assert memory(tmp_path, "") is None


ODD_NUMBERS = ["", "max", "max 100000", "-1", "-1 100000", "garbage", "50000", "5e4 100000", "٣ 100000", "1_0 100000"]
ODD_NUMBERS += ["50000 0", "0 0", "0 100000", "50000 -1", "9" * 5_000, "9" * 5_000 + " 100000", "9" * 400 + " 1", "\0"]


@pytest.mark.parametrize("text", ODD_NUMBERS)
def test_no_quota_of_version_2(tmp_path, text):
    """A file that does not hold two numbers above 0 is no quota."""
    write(tmp_path / "mounted", cpu__max=text)
    assert quota(tmp_path, "0::/\n") is None


@pytest.mark.parametrize("text", ["", "max", "-1", "garbage", "5e4", "٣", "1_0", "1.5", "0", "9" * 5_000, "\0"])
@pytest.mark.parametrize("name", ["cpu__cfs_quota_us", "cpu__cfs_period_us"])
def test_no_quota_of_version_1(tmp_path, name, text):
    """A file that does not hold a number above 0 makes no quota with the other one."""
    whole = {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"}
    write(tmp_path / "mounted" / "cpu", **whole)
    assert quota(tmp_path, "4:cpu:/\n") == 0.5
    write(tmp_path / "mounted" / "cpu", **{**whole, name: text})
    assert quota(tmp_path, "4:cpu:/\n") is None


@pytest.mark.parametrize("text", ["", "max", "max 1", "-1", "garbage", "5e4", "٣", "1_0", "1.5", "9" * 5_000, "\0"])
@pytest.mark.parametrize("name", ["memory__max", "memory__high", "memory__limit_in_bytes"])
def test_a_memory_limit_that_is_none(tmp_path, name, text):
    """A file that holds no number of bytes is no limit."""
    write(tmp_path / "mounted" / "memory", **{name: text})
    write(tmp_path / "mounted", **{name: text})
    assert memory(tmp_path, "0::/\n4:memory:/\n") is None


@pytest.mark.parametrize(
    "told", ["\n", "garbage", "0:", "::", "0::", ":::::", "4:memory,cpu", "0::/" + "a" * 5_000, "0::/a\0b"]
)
def test_a_list_of_groups_that_is_none(tmp_path, told):
    """A line that names no group is passed over, and the others count."""
    write(tmp_path / "mounted", cpu__max="50000 100000", memory__max="7000")
    assert quota(tmp_path, f"{told}\n0::/\n") == 0.5
    assert memory(tmp_path, f"{told}\n0::/\n") == 7000


def test_the_software_is_told_by_the_environment_that_serves():
    """Versions are those of the serving interpreter; Pillow's own libraries and installed decoders are among them."""
    found = environment.software(Path(sys.executable))
    assert found["torch"] == metadata.version("torch")
    assert found["python"].endswith(platform.python_version())
    assert found["libraries"]["onnxruntime"] == metadata.version("onnxruntime")
    assert "pillow's jpeg" in found["libraries"]
    assert "tensorrt" not in found["libraries"]  # not installed


def test_kernel_settings(tmp_path):
    """The settings that the kernel exposes are recorded.

    Of several words the chosen one is recorded, and of several processors all governors.
    """
    assert conditions.kernel_settings(tmp_path) == {}
    write(tmp_path / "kernel/mm/transparent_hugepage", enabled="always [madvise] never")
    write(tmp_path / "devices/system/cpu/smt", active="1")
    for number, governor in enumerate(("powersave", "performance", "powersave")):
        write(tmp_path / f"devices/system/cpu/cpu{number}/cpufreq", scaling_governor=governor)
    wanted = {"transparent_hugepage": "madvise", "smt": "1", "governor": "performance,powersave"}
    assert conditions.kernel_settings(tmp_path) == wanted


def test_of_a_real_process():
    """A process with one processor, a lower priority and one thread records all three, in values that JSON can hold."""
    code = "import json, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.nice(1); "
    code += "from pytest_torchserve import conditions; print(json.dumps(conditions.now()))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = json.loads(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert found["cpu_affinity"] == str(min(os.sched_getaffinity(0)))
    assert found["nice"] == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 1)
    assert found["environment_variables"]["OMP_NUM_THREADS"] == "1"
    mine = conditions.now()
    assert (found["cpu_quota"], found["kernel_settings"]) == (mine["cpu_quota"], mine["kernel_settings"])


def test_a_variable_that_is_set_later(monkeypatch):
    """A variable that changes later is named: collected tests may set variables after saved runs have been compared."""
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    before = conditions.now()
    assert conditions.set_since(before) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("KMP_BLOCKTIME")
    monkeypatch.setenv("EDITOR", "ed")
    assert conditions.set_since(before) == ["KMP_BLOCKTIME", "OMP_NUM_THREADS"]
