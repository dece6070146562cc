"""The pytest plugin: options, what to parametrize, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_torchserve import environment, hooks, options, record
from pytest_torchserve.config import Expected
from pytest_torchserve.deployment import DEVICES
from pytest_torchserve.errors import OptionError
from pytest_torchserve.fixtures import SESSION_KEY
from pytest_torchserve.ledger import Ledger
from pytest_torchserve.matrix import CONFIG_KEY, models
from pytest_torchserve.measure import Cell
from pytest_torchserve.progress import Progress
from pytest_torchserve.session import Session

pytest_plugins = ("pytest_torchserve.fixtures", "pytest_torchserve.matrix", "pytest_torchserve.finish")

LEDGER_KEY: pytest.StashKey[Ledger] = pytest.StashKey()

_MARKERS = (
    "cpu: runs on the CPU",
    "gpu: runs on a GPU; skipped with its reason where there is none",
    "capacity: searches for the highest rate that meets --ts-slo-ms; takes minutes",
    "ts_models(name, ...): measure only these models of the catalogue",
    "ts_effort(processes=…, cell_seconds=…, init_rounds=…): at most this much",
    "ts_batch_sizes(n, ...): measure only these of the batch sizes",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options."""
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Our hook."""
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options once; a bad one is a usage error before anything starts."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[LEDGER_KEY] = Ledger()
    try:
        config.stash[CONFIG_KEY] = options.read(config)
    except OptionError as error:
        raise pytest.UsageError(str(error)) from error


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell that a test measures."""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.params.values() if callspec else ()
    return next((value for value in parameters if isinstance(value, Cell)), None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring tests of one deployment together, so that its workers are loaded once; else keep the order.

    With --ts-url only what someone else's server can be asked is left; and a search for capacity, which takes
    minutes and overloads what it asks, only where `-m` names it.
    """
    attached, searching = config.stash[CONFIG_KEY].attach is not None, "capacity" in (config.option.markexpr or "")
    left: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        cell = cell_of(item)
        ours = cell is None or cell.deployment.device in DEVICES
        wanted = not (attached and ours) and (searching or cell is None or cell.kind != "capacity")
        (left if wanted else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
    items[:] = left
    first: dict[str, int] = {}
    places: dict[pytest.Item, tuple[int, int]] = {}
    for index, item in enumerate(items):
        cell = cell_of(item)
        # An init cell comes first: it ends the deployment's workers, and leaves its last one to the others.
        places[item] = (first.setdefault(cell.deployment.name, index), cell.kind != "init") if cell else (index, 0)
    items.sort(key=places.__getitem__)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Know what the tests will ask for; start nothing."""
    config = session.config
    models(config)
    if config.option.collectonly:
        return
    expected = Expected()
    wanted = [cell for cell in map(cell_of, session.items) if cell is not None]
    for cell in wanted:
        expected.deployments[cell.deployment.name] += 1
    runnable = [cell for cell in dict.fromkeys(wanted) if cell.deployment.device != "gpu" or environment.gpus()[0]]
    for cell in runnable:
        deployment = cell.deployment
        if config.stash[CONFIG_KEY].attach is not None:
            continue
        expected.models[deployment.model.name] = deployment.model
        expected.archived[deployment.model.name, deployment.device] = deployment
    expected.cells = len(runnable)
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")

    def write(text: str) -> None:
        if reporter is None or config.option.verbose < 0:
            return
        with capture.global_and_fixture_disabled():
            reporter._tw._file.write(text)  # noqa: SLF001 - pytest has no public way to write a partial line
            reporter._tw._file.flush()  # noqa: SLF001

    width = reporter._tw.fullwidth if reporter is not None and reporter.isatty else 0  # noqa: SLF001

    def column() -> int:
        return reporter._tw.width_of_current_line if reporter is not None else 0  # noqa: SLF001

    progress = Progress(write, width=width, total=expected.cells, column=column)
    config.stash[SESSION_KEY] = Session(config.stash[CONFIG_KEY], expected, progress, config.stash[LEDGER_KEY])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failing test stores nothing, and shows the server's last words."""
    report = yield
    if not report.passed:
        record.forget(item)
    if report.failed:
        session = item.config.stash.get(SESSION_KEY, None)
        if session is not None and session.server is not None:
            title = f"TorchServe log (kept in {session.server.folder})"
            report.sections.append((title, session.server.log_tail()))
    return report
