"""TorchServe's config.properties: the user's lines, read as a production server reads them, merged with the suite's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util import paths
from pytest_torchserve.errors import OptionError
from pytest_torchserve.inputs import cache
from pytest_torchserve.loadgen.address import Address
from pytest_torchserve.torchserve import java_properties, request_log

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"

PORTS = ("inference_address", "management_address", "metrics_address")
GRPC_PORTS = ("grpc_inference_port", "grpc_management_port")

_FILES = (
    *("metrics_config", "keystore", "private_key_file", "certificate_file", "plugins_path", "workflow_store"),
    *("cpp_log_config", "model_server_home"),
)
"""The settings that are files or folders; a relative one is meant from the place of the config.properties."""

_JVM_PROPERTIES = {
    **dict.fromkeys(("-Dlog4j.configurationFile", "-Dlog4j2.configurationFile"), "the suite reads the server's logs"),
    "-Djava.io.tmpdir": "a folder of this server's own",
}
"""Properties of the JVM that are the suite's, and why."""

_PORTS_OF_OURS = "free ports on loopback"
_OWN_MODELS = "each cell registers its own model"
_OWN_WORKERS = "each cell has its own number of workers"
_WHY = {
    **dict.fromkeys((*PORTS, *GRPC_PORTS, "grpc_inference_address", "grpc_management_address"), _PORTS_OF_OURS),
    **dict.fromkeys(("model_store", "load_models", "model_snapshot", "models", "enable_model_api"), _OWN_MODELS),
    **dict.fromkeys(("allowed_urls", "use_env_allowed_urls"), "archives come from the session's store alone"),
    "disable_system_metrics": "its process imports torch in the middle of a measurement",
    "disable_token_authorization": "no one else may send requests",
    "default_workers_per_model": _OWN_WORKERS,
    "enable_envvars_config": "variables TS_… would replace these settings; write them into the config.properties",
    "metrics_mode": "the frontend's times of each request are read from its log",
}
"""Why a setting of the user's is overridden, by its name."""

_NEVER = {"load_models", "model_snapshot", "models", "use_env_allowed_urls", "default_workers_per_model"}


def read(path: Path) -> dict[str, str]:
    """Read a Java properties file.

    Raises:
        OptionError: the file cannot be read.
    """
    try:
        return java_properties.parse(java_properties.decoded(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise OptionError(
            wanted="a TorchServe config.properties (--ts-config, --ts-baseline=config:FILE)",
            found=f"{paths.shown(path)}: {getattr(error, 'strerror', None) or error}",
            do="name a text file that can be read, in the form that Java reads",
        ) from error


def merged(
    config: Path | None, jvm_args: str, ports: Mapping[str, int], model_store: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the server's settings, and by name the user's settings that were overridden, with the reason.

    The suite's settings take precedence where isolation or measuring needs it.
    """
    ours = {name: Address(HOST, ports[name]).url for name in PORTS}
    ours |= {name: str(ports[name]) for name in GRPC_PORTS}
    ours |= {
        "grpc_inference_address": HOST,
        "grpc_management_address": HOST,
        "model_store": str(model_store),
        "allowed_urls": f"file://{model_store}/.*",
        "disable_system_metrics": "true",
        "disable_token_authorization": "false",
        "enable_model_api": "true",
        "enable_envvars_config": "false",
        "metrics_mode": "log",
    }
    defaults = {
        # An hour, TorchServe's default, is shorter than a long session.
        "token_expiration_min": str(60 * 24 * 30),
        "job_queue_size": "4000",
    }
    users = in_place(read(config), config.parent) if config else {}
    overridden = {
        key: _WHY[key] for key in sorted(users) if key in _NEVER or (key in ours and users[key].strip() != ours[key])
    }
    found = defaults | {key: value for key, value in users.items() if key not in _NEVER} | ours
    arguments = f"{found.pop('vmargs', '')} {jvm_args}".split()
    refused = [one for one in arguments if one.partition("=")[0] in _JVM_PROPERTIES]
    overridden |= {one.partition("=")[0]: _JVM_PROPERTIES[one.partition("=")[0]] for one in refused}
    if kept := [one for one in arguments if one not in refused]:
        found["vmargs"] = " ".join(kept)
    return found, overridden


def in_place(settings: Mapping[str, str], place: Path) -> dict[str, str]:
    """Return settings whose files are meant from a folder, the server's working folder being another.

    Raises:
        OptionError: there is no such file.
    """
    found, absent = dict(settings), []
    for key in _FILES:
        value = settings.get(key, "").strip()
        if not value:
            continue
        all_in_it = value.endswith("/*") and key == "plugins_path"  # TorchServe's own notation
        path = place / value.removesuffix("/*" if all_in_it else "")
        why = paths.why_absent(path)
        if why is not None and not (key == "workflow_store" and why == paths.NOTHING_THERE):
            name = paths.shown(path)
            absent.append((key, f"no {name}" if why == paths.NOTHING_THERE else f"{name}: {why}"))
        found[key] = str(paths.resolved(path)) + "/*" * all_in_it
    if absent:
        keys = " and ".join(key for key, _ in absent)
        raise OptionError(
            wanted=f"what the config.properties names as {keys} (--ts-config, --ts-baseline=config:FILE)",
            found=", ".join(words for _, words in absent),
            do="mend the names; a relative one is meant from the folder of the config.properties",
        )
    return found


def content_of(key: str, value: str, place: Path) -> str:
    """Return a file's name and the hash of its content, for the settings whose files are configuration; else ''."""
    path = place / value
    if key not in ("metrics_config", "cpp_log_config") or not paths.is_file(path):
        return ""
    return f"{path.name} ({cache.key([path.read_bytes()])})"


def unmeasured(settings: Mapping[str, str]) -> list[str]:
    """Return what cannot be measured with these settings, and which of them prevents it, in words."""
    told = settings.get("metrics_config")
    if not told:
        return []
    try:
        declared = Path(told).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    absent = [name for name in request_log.METRICS if not re.search(rf"^[^#\n]*\b{name}\b", declared, re.MULTILINE)]
    if not absent:
        return []
    names = " and ".join(absent)
    where = f"metrics_config: {Path(told).name} does not declare {names}"
    return [f"{where}: without them the frontend's log does not tell the queue and the wait for a batch to fill apart"]


def as_text(settings: Mapping[str, str]) -> str:
    """Return settings as a properties file's text."""
    return java_properties.as_text(settings)
