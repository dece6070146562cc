"""The fixtures for tests of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_torchserve import environment
from pytest_torchserve._util.time_accounting import Activity
from pytest_torchserve.deployment import Batching, Deployment, Device
from pytest_torchserve.plugin.failures import or_fail

# Nothing heavy of this package is imported here: this module is loaded into every pytest session of its environment.
if TYPE_CHECKING:
    from pytest_torchserve import Model, Phase, Run, Sample
    from pytest_torchserve._util.time_accounting import TimeAccounting
    from pytest_torchserve.compare.plan import Plan
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.response import Response
    from pytest_torchserve.measure import Budget, Cell, CellKind
    from pytest_torchserve.session.session import Session
    from pytest_torchserve.torchserve.endpoint import Endpoint
    from pytest_torchserve.torchserve.server import Server

SESSION_KEY: pytest.StashKey[Session] = pytest.StashKey()
PLAN_KEY: pytest.StashKey[Plan] = pytest.StashKey()
MODELS_KEY: pytest.StashKey[tuple[Model, ...]] = pytest.StashKey()
TIME_ACCOUNTING_KEY: pytest.StashKey[TimeAccounting] = pytest.StashKey()

COMPARED_KEY: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
"""The environments of the suite's saved runs that this session is compared with."""

NARROWED_KEY: pytest.StashKey[bool] = pytest.StashKey()
"""Whether only tests of an earlier session are selected."""

DESELECTED_KEY: pytest.StashKey[set[str]] = pytest.StashKey()
"""The node ids of the deselected tests."""

RUN_FIXTURES: dict[str, CellKind] = {
    "ts_init_run": "init",
    "ts_handle_run": "handle",
    "ts_stream_run": "handle",
    "ts_pace_run": "load",
    "ts_load_run": "load",
    "ts_capacity_run": "capacity",
}
"""The fixtures that measure, and the kind of cell that each measures."""

Deploy = Callable[..., "Endpoint"]


class Catalogue(dict[str, "Model"]):
    """Models by name. A test that asks for one that is not there is skipped where archives are given, else it fails."""

    def __init__(self, models: dict[str, Model], *, own: bool) -> None:
        super().__init__(models)
        self._own = own

    def __missing__(self, name: str) -> Model:
        """Skip or fail the test that asks for a model which is not there."""
        if self._own:
            pytest.skip(
                f"needs {name}, a model of the suite's own catalogue; here archives of your own and noop are served"
            )
        pytest.fail(
            f"wanted: a model {name!r} in the catalogue\nfound: {', '.join(self) or 'no models'}\n"
            "what to do: return it from pytest_torchserve_models in conftest.py",
            pytrace=False,
        )


def is_ours(item: pytest.Item) -> bool:
    """Return whether a test uses this plugin's fixtures."""
    return not {"ts_session", "ts_store"}.isdisjoint(getattr(item, "fixturenames", ()))


def need_device(device: Device, *, require_gpu: bool) -> None:
    """Skip (or fail) a gpu test where there is no GPU, and say why there is none."""
    if device != "gpu":
        return
    found, reason = environment.gpus()
    if not found and require_gpu:
        pytest.fail(f"no GPU: {reason} (--ts-require-gpu)", pytrace=False)
    if not found:
        pytest.skip(f"no GPU: {reason}")


def budget_for(request: pytest.FixtureRequest, usual: Budget) -> Budget:
    """Return the session's budget, reduced where the test's `ts_budget` marker says so; never increased."""
    marker = request.node.get_closest_marker("ts_budget")
    limits = marker.kwargs if marker else {}
    return replace(usual, **{name: min(getattr(usual, name), limit) for name, limit in limits.items()})


@pytest.fixture(scope="session")
def ts_session(pytestconfig: pytest.Config) -> Session:
    """The session, which all other fixtures use. Requesting this fixture starts nothing."""
    if SESSION_KEY not in pytestconfig.stash:
        pytest.fail(
            "wanted: ts_session among the arguments of a test, or of a fixture that it names\n"
            "found: it was asked for while a test runs (request.getfixturevalue), and no other test names it\n"
            "what to do: name ts_session in the test's arguments: a session without it has no server of ours",
            pytrace=False,
        )
    return pytestconfig.stash[SESSION_KEY]


@pytest.fixture(scope="session")
def ts_server(ts_session: Session) -> Server:
    """A running TorchServe that the suite has started."""
    return or_fail(ts_session.deployments.start)


def _measured(request: pytest.FixtureRequest, session: Session) -> Iterator[Run]:
    cell: Cell = request.param
    if session.config.recovered is None:
        need_device(cell.deployment.device, require_gpu=session.config.require_gpu)
    try:
        yield or_fail(lambda: session.run(cell, budget_for(request, session.config.budget)))
    finally:
        session.deployments.release(cell.deployment)


@pytest.fixture
def ts_init_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """New workers of one model on one device, timed from nothing to ready."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_handle_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """Full batches of one model × device × batch size, timed."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_stream_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """Full batches of one model × device × batch size whose answers come in chunks, timed."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_pace_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """A load of constant rate on one model × device, timed."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_load_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """A load on one model × device × batching, timed."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_capacity_run(request: pytest.FixtureRequest, ts_session: Session) -> Iterator[Run]:
    """The highest rate at which one model × device × batching meets the latency goal."""
    yield from _measured(request, ts_session)


@pytest.fixture
def ts_device(request: pytest.FixtureRequest, ts_session: Session) -> Device:
    """The device: `cpu`, then `gpu`."""
    device: Device = request.param
    need_device(device, require_gpu=ts_session.config.require_gpu)
    return device


@pytest.fixture(scope="session")
def ts_catalogue(pytestconfig: pytest.Config, ts_session: Session) -> Catalogue:  # noqa: ARG001 - `is_ours` goes by it
    """The models of this session, by name."""
    own = bool(pytestconfig.getoption("ts_mar") or pytestconfig.getoption("ts_suite"))
    return Catalogue({model.name: model for model in pytestconfig.stash[MODELS_KEY]}, own=own)


@pytest.fixture(scope="module")
def ts_deploy(ts_session: Session) -> Iterator[Deploy]:
    """`ts_deploy(model, device, batch_size=1, max_batch_delay_ms=…, workers=1)`; undone after the module's tests."""
    made: list[Deployment] = []

    def deploy_(
        model: Model,
        device: Device = "cpu",
        *,
        workers: int = 1,
        batch_size: int = 1,
        max_batch_delay_ms: int = 100,
    ) -> Endpoint:
        deployment = Deployment(model, device, Batching(batch_size, max_batch_delay_ms))
        made.append(deployment)
        return or_fail(lambda: ts_session.deployments.endpoint(deployment, workers=workers))

    yield deploy_
    for deployment in made:
        ts_session.deployments.release(deployment)


@pytest.fixture
def ts_store(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Callable[[Run, Phase], None]:
    """`ts_store(run, phase)` stores the phase's samples as this test's pytest-benchmark entry."""

    def store_(run: Run, phase: Phase) -> None:
        from pytest_torchserve.plugin import benchmark  # noqa: PLC0415 - see the module's top

        with pytestconfig.stash[TIME_ACCOUNTING_KEY].span(Activity.RECORDS):
            benchmark.replay(request, run, phase)

    return store_


@pytest.fixture
def ts_inputs(ts_session: Session) -> Callable[[Model], ModelInputs]:
    """`ts_inputs(model)` returns the model's weights, samples and golden answers."""
    return ts_session.artifacts.inputs


@pytest.fixture
def ts_ask() -> Callable[[Endpoint, Sequence[Sample]], list[Response]]:
    """`ts_ask(endpoint, samples)` sends all samples at once and returns the responses in the order of the samples."""
    return lambda endpoint, samples: endpoint.ask(samples)
