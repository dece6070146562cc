"""Cells of a saved run that this session should have and does not: a comparison without them is incomplete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _pytest.mark.expression import Expression  # pytest's own parser of -k and -m; there is no public one

from pytest_torchserve import suite
from pytest_torchserve.deployment import Batching
from pytest_torchserve.plugin import benchmark, options, own_archives
from pytest_torchserve.plugin.fixtures import DESELECTED_KEY, MODELS_KEY, NARROWED_KEY
from pytest_torchserve.plugin.matrix import PACE, PACE_LOAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_torchserve.config import Config


def lines(session: pytest.Session, ended: dict[str, bool]) -> list[str]:
    """Return in words which entries of the compared saved runs are missing, and how many were not reached.

    Call this function after `benchmark.set_aside_invalid`: an INVALID entry was no measurement, and is not missing.

    Args:
        ended: the node ids of the tests that ended, and whether each has failed: failed tests are reported already.
    """
    if options.stores_nothing(session.config):
        return []
    collected = {item.nodeid for item in session.items}
    gone, unreached, unknown = [], 0, 0
    for name, source, extra in benchmark.without_counterpart(session.config):
        if name in collected and name not in ended:
            unreached += 1  # the session ended early
        elif name in ended:
            gone += [] if ended[name] else [f"missing: {name} is in {source} and not in this run"]
        elif _asked_for(session, name, extra):
            if _selected(session.config, name, extra, unknown=False):
                gone.append(f"missing: {name} is in {source} and not in this run")
            elif _selected(session.config, name, extra, unknown=True):
                unknown += 1
    found = [*gone, "the session fails: cells that were there are missing"] if gone else []
    found += [f"not compared: {unreached} saved entries whose tests were not reached"] if unreached else []
    mark = session.config.getoption("markexpr", "")
    why = f"are gone, and nobody can tell whether -m '{mark}' would select them"
    return found + ([f"not compared: {unknown} saved entries whose tests {why}"] if unknown else [])


def _asked_for(session: pytest.Session, nodeid: str, extra: Mapping[str, Any]) -> bool:
    """Return whether a test that was not collected would be one to run, but for -k and -m, if it were still there."""
    config = session.config
    if not _wanted(config, extra) or nodeid in config.stash.get(DESELECTED_KEY, set()) or config.stash[NARROWED_KEY]:
        return False
    if any(nodeid.startswith(prefix) for prefix in config.getoption("deselect") or ()):
        return False
    file, _, rest = nodeid.partition("::")
    return _within(config, file, rest) and not _ignored(session, file)


def _wanted(config: pytest.Config, extra: Mapping[str, Any]) -> bool:
    """Return whether the options select such a cell."""
    told = options.of(config)
    given = {model.name for model in config.stash[MODELS_KEY]} if told.archives else {extra.get("model")}
    if extra.get("model") not in given or (extra["device"] == "unknown") is not (told.attach is not None):
        return False
    if extra["kind"] == "capacity" and "capacity" not in (config.getoption("markexpr", "") or ""):
        return False
    if extra["kind"] == "handle":
        return extra["batch_size"] in told.batch_sizes
    return extra["kind"] == "init" or _traffic_wanted(told, extra)


def _traffic_wanted(told: Config, extra: Mapping[str, Any]) -> bool:
    """Return whether the options select a cell under traffic: its load, its batching and its workers."""
    batching = Batching(extra["batch_size"], extra["max_batch_delay_ms"])
    if extra["load"] == PACE_LOAD and batching == PACE:
        return True
    if extra["load"] and extra["load"] not in {schedule.name for schedule in told.schedules}:
        return False
    if told.attach is not None:
        return True
    # An archive's own settings name its workers.
    as_configured = "-configured" in extra.get("cell", "")
    return batching in told.batchings and (as_configured or extra["workers"] in told.workers)


def _within(config: pytest.Config, file: str, rest: str) -> bool:
    """Return whether the test lies in a path or node id named on the command line."""
    place = (config.rootpath / file).resolve()
    if own_archives.asked_for(config):
        place = (suite.place(file) or place).resolve()
    for argument in config.args:
        path, _, within = str(argument).partition("::")
        # The name of a function selects all of its cells, that of a class all of its tests.
        inside = not within or rest == within or rest.startswith((f"{within}[", f"{within}::"))
        if inside and place.is_relative_to((config.invocation_params.dir / path).resolve()):
            return True
    return False


def _ignored(session: pytest.Session, file: str) -> bool:
    """Return whether pytest is configured to ignore the file or a folder that contains it."""
    config = session.config
    place = config.rootpath / file
    if own_archives.asked_for(config) and suite.place(file):
        return False
    inside = [path for path in (place, *place.parents) if path.is_relative_to(config.rootpath)]
    for path in inside[:-1]:
        nearest = next(parent for parent in (path.parent, *path.parents) if parent.exists())
        if session.gethookproxy(nearest).pytest_ignore_collect(collection_path=path, config=config):
            return True
    return False


def _selected(config: pytest.Config, nodeid: str, extra: Mapping[str, Any], *, unknown: bool) -> bool:
    """Return whether -k and -m would have selected the test.

    Args:
        unknown: whether the test is taken to have a marker that its entry does not imply: a conftest.py may set any.
    """
    words = nodeid.lower()
    marks = {"capacity"} if extra["kind"] == "capacity" else {extra["device"]}

    def has(name: str) -> bool:
        return name in marks or (unknown and name not in ("cpu", "gpu", "capacity"))

    keyword, mark = config.getoption("keyword", ""), config.getoption("markexpr", "")
    try:
        chosen = not keyword or Expression.compile(keyword).evaluate(lambda name, /, **_: name.lower() in words)
        return chosen and (not mark or Expression.compile(mark).evaluate(lambda name, /, **_: has(name)))
    except SyntaxError:  # pytest reports the error itself, before this point
        return True
