"""Two archives in one: each arm in a folder of its own, `ts_pair` as the entry point."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_torchserve.inputs.cache import key as content_key
from pytest_torchserve.torchserve import archive, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.deployment import Device
    from pytest_torchserve.torchserve.timeouts import WantedTimeouts

PAIR = Path(__file__).parent / "payload" / "ts_pair.py"


def build(
    name: str,
    device: Device,
    arms: Mapping[str, Path],
    store: Path,
    seed: int,
    timeouts: WantedTimeouts = wrap.AS_THEY_ARE,
) -> archive.Archive:
    """Return an archive of both arms (`baseline`, `candidate`); make it unless the store holds it already.

    The arms may hold files and modules of the same names; an arm may be an archive from elsewhere, without the probe.

    Args:
        timeouts: the time-outs that the user asks for.

    Raises:
        ArchiveError: an arm is not a readable archive.
    """
    for path in arms.values():
        archive.check(path)
    parts = [part for arm in arms.items() for part in arm]
    key = content_key([*wrap.PAYLOAD, PAIR, device, str(seed), *timeouts.key, *parts])
    path = store / f"{name}-{device}-pair-{key}.mar"
    with FileLock(store / f".{name}-{device}-pair.lock"):
        if not path.is_file():
            prefix = f".making-pair-{name}-{device}-"
            for abandoned in store.glob(f"{prefix}*"):
                shutil.rmtree(abandoned)  # by a process that was killed: this one holds the lock
            with tempfile.TemporaryDirectory(dir=store, prefix=prefix) as folder:
                made = Path(folder) / path.name
                _write(made, device, arms, seed, timeouts)
                made.replace(path)
    return archive.Archive(path=path, key=key)


def is_probed(path: Path) -> bool:
    """Return whether an archive holds the probe, and so reports on itself."""
    with zipfile.ZipFile(path) as file:
        return not {"ts_probe.py", *wrap.packed()}.isdisjoint(file.namelist())


def _write(path: Path, device: Device, arms: Mapping[str, Path], seed: int, timeouts: WantedTimeouts) -> None:
    """Write the archive, stored and not compressed: weights shrink little, and are written twice."""
    import yaml  # noqa: PLC0415 - not needed to collect tests

    told: dict[str, Any] = {}
    manifest: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for name, arm in arms.items():
            with wrap.opened(arm) as root:
                for entry, part in wrap.files(root):
                    with part.open("rb") as source, made.open(f"{name}/{entry}", "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                manifest, model, config = wrap.original(root, arm)
                arm_manifest = {**manifest, "model": model}
                told[name] = {"handler": model["handler"], "manifest": arm_manifest, "config": config}
        model = {**manifest["model"], "handler": PAIR.name, "configFile": "model-config.yaml"}
        for of_an_arm in ("serializedFile", "modelFile", "requirementsFile"):
            model.pop(of_an_arm, None)
        made.writestr(wrap.MANIFEST, json.dumps({**manifest, "model": model}, indent=2))
        # The frontend reads the candidate's config (time-outs and the like); each arm's own stands in `arms`.
        own = {key: value for key, value in told["candidate"]["config"].items() if key not in wrap.REGISTERED}
        own |= timeouts.within(own)
        config = {**own, "deviceType": device, "probe": {"seed": seed, "arms": told}}
        made.writestr("model-config.yaml", yaml.safe_dump(config, allow_unicode=True))
        for file_name, program in {**wrap.packed(), PAIR.name: PAIR}.items():
            made.write(program, file_name)
