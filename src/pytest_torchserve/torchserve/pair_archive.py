"""Two archives in one: each arm in a folder of its own, `ts_pair` as the entry point."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pytest_torchserve.errors import ArchiveError
from pytest_torchserve.inputs.cache import key as content_key
from pytest_torchserve.torchserve import archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.deployment import Device

PAIR = Path(__file__).parent / "payload" / "ts_pair.py"
_MANIFEST = "MAR-INF/MANIFEST.json"


def build(name: str, device: Device, arms: Mapping[str, Path], store: Path, seed: int) -> archive.Archive:
    """Return an archive of both arms (`baseline`, `candidate`); make it unless the store holds it already.

    The arms may hold files and modules of the same names; an arm may be an archive from elsewhere, without the probe.

    Raises:
        ArchiveError: an arm is not a readable archive.
    """
    for path in arms.values():
        archive.check(path)
    key = content_key([archive.PROBE, PAIR, device, str(seed), *(part for arm in arms.items() for part in arm)])
    path = store / f"{name}-{device}-pair-{key}.mar"
    with FileLock(store / f".{name}-{device}-pair.lock"):
        if not path.is_file():
            prefix = f".making-pair-{name}-{device}-"
            for abandoned in store.glob(f"{prefix}*"):
                shutil.rmtree(abandoned)  # by a process that was killed: this one holds the lock
            with tempfile.TemporaryDirectory(dir=store, prefix=prefix) as folder:
                made = Path(folder) / path.name
                _write(made, device, arms, seed)
                made.replace(path)
    return archive.Archive(path=path, key=key)


def is_probed(path: Path) -> bool:
    """Return whether an archive holds the probe, and so reports on itself."""
    with zipfile.ZipFile(path) as file:
        return archive.PROBE.name in file.namelist()


def _write(path: Path, device: Device, arms: Mapping[str, Path], seed: int) -> None:
    """Write the archive, stored and not compressed: weights shrink little, and are written twice."""
    told: dict[str, Any] = {}
    manifest: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for name, arm in arms.items():
            with zipfile.ZipFile(arm) as file:
                for entry in file.namelist():
                    if not entry.endswith("/"):
                        made.writestr(f"{name}/{entry}", file.read(entry))
                manifest = json.loads(file.read(_MANIFEST))
                told[name] = _arm(file, manifest, arm)
        model = {**manifest["model"], "handler": PAIR.name, "configFile": "model-config.yaml"}
        for of_an_arm in ("serializedFile", "modelFile", "requirementsFile"):
            model.pop(of_an_arm, None)
        made.writestr(_MANIFEST, json.dumps({**manifest, "model": model}, indent=2))
        # The frontend reads the candidate's config (time-outs and the like); each arm's own stands in `arms`.
        config = {**told["candidate"]["config"], "deviceType": device, "probe": {"seed": seed, "arms": told}}
        made.writestr("model-config.yaml", json.dumps(config, indent=2, sort_keys=True))
        for program in (archive.PROBE, PAIR):
            made.write(program, program.name)


def _arm(file: zipfile.ZipFile, manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return one arm's settings for the entry point: JSON, so that a worker need not parse YAML."""
    import yaml  # noqa: PLC0415 - not needed to collect tests

    try:
        entry = manifest["model"]
        config = yaml.safe_load(file.read(entry["configFile"])) if "configFile" in entry else {}
        handler = (config or {}).get("probe", {}).get("handler") or entry["handler"]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise ArchiveError(
            wanted=f"an archive with a handler in {path}", found=f"{type(error).__name__}: {error}", do="make it anew"
        ) from error
    return {"handler": handler, "manifest": manifest, "config": config or {}}
