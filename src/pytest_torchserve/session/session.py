"""One session: the server, what is deployed on it, and every cell measured once."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_torchserve import conditions, environment, measure
from pytest_torchserve._util.memo import Memo
from pytest_torchserve._util.time_accounting import Activity, TimeAccounting
from pytest_torchserve.compare import verdict
from pytest_torchserve.compare.baseline import NoBaselineError
from pytest_torchserve.compare.runner import ComparisonRunner, ComparisonSetup
from pytest_torchserve.errors import InputError, ServerError
from pytest_torchserve.loadgen import client
from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.session.artifacts import ArtifactBuilder
from pytest_torchserve.session.journal import Journal
from pytest_torchserve.telemetry.monitor import Monitor
from pytest_torchserve.torchserve import java
from pytest_torchserve.torchserve.attached import AttachedEndpoint, prepared_from
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server

if TYPE_CHECKING:
    from pytest_torchserve._util.progress import Progress
    from pytest_torchserve.config import Config, Expected
    from pytest_torchserve.deployment import Deployment
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.loadgen.locust import LocustEngine
    from pytest_torchserve.loadgen.target import Engine, Target
    from pytest_torchserve.measure import Budget, Cell, Run
    from pytest_torchserve.model import Model


class Session:
    """Starts things when they are first needed, and ends them when no test needs them any more."""

    def __init__(self, config: Config, expected: Expected, progress: Progress, accounting: TimeAccounting) -> None:
        self.config = config
        self.accounting = accounting
        self.journal = Journal(config.journal)
        self.runs: dict[tuple[Cell, Budget], Run] = {}
        self.notices: list[str] = []
        self.uncompared: dict[str, str] = {}
        self.comparisons: list[verdict.Comparison] = []
        self.server: Server | None = None
        self._expected = expected
        self._progress = progress
        self.artifacts = ArtifactBuilder(config, accounting, self.notices.append)
        self._memo = Memo()
        self._endpoints: dict[str, Endpoint] = {}
        self._monitor: Monitor | None = None
        self._locust_engine: LocustEngine | None = None
        self._comparison_runner: ComparisonRunner | None = None
        self._described = False

    # -- inputs and server -----------------------------------------------------------------------

    def start(self) -> Server:
        """The server, started at the first call; golden answers are made meanwhile.

        Raises what went wrong, and the same again at every further call: one cause, not a hundred.
        """
        return self._memo("server", self._start)

    def _start(self) -> Server:
        if self.config.attach is not None:
            raise ServerError(
                wanted="a TorchServe of our own",
                found="--ts-url: someone else's is measured, and is left as it is",
                do="select the tests of traffic (tests/test_load.py), or leave --ts-url out",
            )
        self.artifacts.start(self._expected.models.values())
        with self.accounting.span(Activity.SERVER_START):
            server = Server(java.find(), self.config.store, self.config.server)
            try:
                server.start()
            except BaseException:
                server.stop()
                raise
        if server.overridden:
            self.notices.append(f"overridden for isolation: {', '.join(server.overridden)}")
        if self.config.keep:
            server.keep()
        self.server = server
        models = sum(model.network is not None for model in self._expected.models.values())
        self.notices.append(environment.worker_advice(len(environment.gpus()[0]), models))
        late = conditions.set_since(self.config.conditions)
        if late:
            self.notices.append(f"changed after the session had begun, recorded as before: {', '.join(late)}")
        self.journal.write("session", self.config.machine_info())
        # Not one cell is measured before all of it is made: that would compete for the processor.
        self.artifacts.prepare_all(self._expected.archived.values(), self._expected.models.values())
        return server

    def inputs(self, model: Model) -> ModelInputs:
        """The model's weights, samples and golden answers."""
        return self.artifacts.inputs(model)

    # -- deployments -----------------------------------------------------------------------------

    def endpoint(self, deployment: Deployment, *, workers: int | None = None) -> Endpoint:
        """The deployment, registered, with exactly this many workers (as many as it has, for None)."""
        server = self.start()
        endpoint = self._endpoints.get(deployment.name)
        if endpoint is None:
            endpoint = Endpoint(server, deployment, self.artifacts.archive(deployment), self.accounting)
            endpoint.register()
            self._endpoints[deployment.name] = endpoint
        if workers is not None and len(endpoint.workers()) != workers:
            endpoint.scale(workers)
        return endpoint

    def release(self, deployment: Deployment) -> None:
        """One test less needs the deployment; the last one ends its workers."""
        self._expected.deployments[deployment.name] -= 1
        if self._expected.deployments[deployment.name] <= 0:
            self._drop(deployment)

    def _drop(self, deployment: Deployment) -> None:
        endpoint = self._endpoints.pop(deployment.name, None)
        if endpoint is not None and endpoint.server.alive():
            endpoint.close()

    # -- cells -----------------------------------------------------------------------------------

    def run(self, cell: Cell, budget: Budget) -> Run:
        """The cell's run, measured at the first call and remembered, as a failure is too."""
        key = (cell, budget)
        if key not in self.runs:
            self.runs[key] = self._memo(key, lambda: self._measure(cell, budget))
        return self.runs[key]

    def _measure(self, cell: Cell, budget: Budget) -> Run:
        deployment = cell.deployment
        if self.config.attach is None:
            self.start()
        self._progress.start(f"{cell.kind} {cell.id}")
        progress, monitor = self._progress.update, self.monitor()
        try:
            compared = self._compared(cell, budget, monitor)
            if compared is not None:
                run = compared
            elif cell.kind == "init":
                inputs = self.inputs(deployment.model)
                run = measure.measure_init(self.endpoint(deployment), inputs, budget, progress, monitor)
            elif cell.kind == "handle":
                inputs = self.inputs(deployment.model)
                endpoint = self.endpoint(deployment, workers=budget.processes)
                run = measure.measure_handle(endpoint, inputs, budget, progress, monitor)
            elif cell.kind == "load":
                run = measure.measure_load(*self._target(deployment), cell, progress, monitor)
            else:
                run = measure.measure_capacity(*self._target(deployment), cell, budget, progress, monitor)
        finally:
            self._progress.finish()
        self.journal.write("run", run.as_dict())
        if Failure.UNANSWERED in run.errors:
            self._drop(deployment)  # what it still has queued would run into the next cell
        return run

    def _compared(self, cell: Cell, budget: Budget, monitor: Monitor) -> Run | None:
        """The cell held against the baseline; None where there is none, or none for this cell."""
        deployment, baseline = cell.deployment, self.config.baseline
        if baseline is None or cell.kind not in ("init", "handle"):
            return None
        inputs, candidate = self.inputs(deployment.model), self.artifacts.archive(deployment)
        if self._comparison_runner is None:
            config = self.config
            setup = ComparisonSetup(
                baseline, config.weights, config.data, config.store, config.server, config.baseline_server, config.keep
            )
            self._comparison_runner = ComparisonRunner(setup, self.start(), self.accounting)
        try:
            return self._comparison_runner.run(cell, candidate, inputs, budget, self._progress.update, monitor)
        except NoBaselineError as error:
            name, why = f"{cell.kind} {cell.id}", f"no baseline: {error.wanted}; found: {error.found}"
            self.uncompared[name] = why
            self.journal.write("uncompared", {"cell": name, "why": why})
            return None

    def _target(self, deployment: Deployment) -> tuple[Target, ModelInputs]:
        """What is put under traffic, and what it is asked."""
        attach = self.config.attach
        if attach is None:
            endpoint = self.endpoint(deployment, workers=1)
            endpoint.engine = self.engine()
            return endpoint, self.inputs(deployment.model)
        if not self._described:
            self._described = True
            self.journal.write("session", self.config.machine_info())
        if attach.samples is not None:
            inputs = prepared_from(attach.samples, attach.model)
        elif deployment.model.dataset:
            self.artifacts.start([deployment.model])
            inputs = self.inputs(deployment.model)
        else:
            raise InputError(
                wanted=f"samples for {attach.model}",
                found="no --ts-samples, and no model of that name in the catalogue",
                do="name a folder of files to send with --ts-samples",
            )
        if any(sample.answer is None for sample in inputs.samples):
            self.notices.append("answers without a FILE.answer.json are only checked for their status")
        return AttachedEndpoint(attach.address, attach.management, attach.model, self.accounting, self.engine()), inputs

    def monitor(self) -> Monitor:
        """The sampler, started at the first call."""
        if self._monitor is None:
            self._monitor = Monitor()
        return self._monitor

    def engine(self) -> Engine:
        """What sends traffic: this process, or Locust, started at the first call."""
        if self.config.engine is None:
            return client.send
        if self._locust_engine is None:
            from pytest_torchserve.loadgen.locust import LocustEngine  # noqa: PLC0415 - optional

            self._locust_engine = LocustEngine(self.config.engine.workers, self.config.engine.master)
            if self.config.engine.master:
                self._progress.say(
                    f"start {self.config.engine.workers} workers elsewhere: {self._locust_engine.command}"
                )
        self._memo("locust", self._locust_engine.start)
        self._locust_engine.start()  # anew where it was lost; where it runs that does nothing
        return self._locust_engine

    # -- verdicts ----------------------------------------------------------------------------------

    def compute_verdicts(self) -> None:
        """Judge everything that was held against the baseline; only now is known how much that is."""
        self.comparisons = verdict.compare(self.runs.values(), self.config.rules)
        if self.config.baseline is not None and self.runs:
            self.journal.write("rules", asdict(self.config.rules))
        for one in self.comparisons:
            self.journal.write("verdict", asdict(one))

    @property
    def fails(self) -> bool:
        """Whether a verdict fails the session."""
        rules = self.config.rules
        return bool(verdict.failing(self.comparisons, rules) or (rules.strict and self.uncompared))

    # -- end -------------------------------------------------------------------------------------

    def close(self, *, failed: bool) -> None:
        """Stop the server and whatever is still being prepared; a failed session leaves its logs.

        Each is stopped whatever becomes of the others.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.artifacts.cancel)
            if self.server is not None:
                if failed:
                    self.server.keep()
                if failed or self.config.keep:
                    self.notices.append(f"the server's logs and temporary files are kept in {self.server.folder}")
                stack.callback(self.server.stop)
            if self._comparison_runner is not None:
                stack.callback(self.notices.extend, self._comparison_runner.notices)
                stack.callback(self._comparison_runner.close, failed=failed)
            for ours in (self._monitor, self._locust_engine):
                if ours is not None:
                    stack.callback(ours.close)
