"""The measurement of one cell: `Run`, and the parts that only some kinds of cell have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure.batches import mean_size

if TYPE_CHECKING:
    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure.batches import Batches
    from pytest_torchserve.measure.blocks import Block
    from pytest_torchserve.measure.capacity_result import Capacity
    from pytest_torchserve.measure.cell import Cell
    from pytest_torchserve.measure.evidence import Evidence
    from pytest_torchserve.measure.latency_breakdown import LatencyBreakdown
    from pytest_torchserve.measure.slices import Slice
    from pytest_torchserve.phase import Phase
    from pytest_torchserve.stats import Quantile
    from pytest_torchserve.telemetry.monitor import Telemetry


@dataclass(frozen=True, slots=True)
class Traffic:
    """The figures of a run under traffic, besides its samples.

    Attributes:
        asked: number of requests that left.
        offered_per_s: the rate of an open loop; None for a closed loop.
        schedule_delay: percentiles of how late the client sent, in seconds.
        latency: percentiles of latency, in seconds, from when a request should have left; with intervals that hold for
            requests that share a queue.
        waterfall: the latency breakdown; None where no request was answered.
        batches: the batches that the frontend formed.
        slices: figures by time slice; only for a schedule whose rate changes.
        effective_size: how many independent requests would say as much about latency as these.
        utilisation: the rate as a share of what the workers can take in full batches; None for a closed loop, and where
            nothing is known of the batches.
        slo_s: the latency goal, in seconds.
        within_slo: number of right answers within the goal.
    """

    asked: int
    offered_per_s: float | None
    schedule_delay: tuple[Quantile, ...]
    latency: tuple[Quantile, ...]
    waterfall: LatencyBreakdown | None
    batches: Batches
    slices: tuple[Slice, ...] = ()
    effective_size: float = 0.0
    utilisation: float | None = None
    slo_s: float = 0.0
    within_slo: int = 0

    @property
    def goodput(self) -> float | None:
        """The share of the requests that left with a right answer within the goal; None where none left."""
        return self.within_slo / self.asked if self.asked else None


@dataclass(frozen=True, slots=True)
class Paired:
    """The pairs of a run with two arms: each baseline time beside the candidate's under the same machine conditions.

    Attributes:
        baseline: the baseline that the candidate is compared with, in the user's words.
        pairs: by phase and process, (baseline, candidate) in seconds, in the order of time.
        by_process: whether each arm was a process of its own, so that each two processes are one sample; else one
            process held both arms.
        differs: the settings of the process on which the arms disagree, in words.
        probe_cost_s: by phase, the part that the probe itself takes, in seconds. Smaller changes are ignored.
        answers_apart: the largest distance of two numbers at the same place of both arms' answers to one request, all
            within the tolerance; in the answers' own unit.
        blocks: of a load, in which one arm, then the other, got the same arrivals; it has no pairs.
        capacities: of searches for capacity, (baseline, candidate) in requests a second, pair by pair; None where a
            search found none.
        spent_s: how long it took, worker starts included.
        error_share: the share of its error that an interval may still make: less than 1 where looks before the end had
            theirs.
    """

    baseline: str
    pairs: Mapping[Phase, Mapping[int, tuple[tuple[float, float], ...]]] = field(default_factory=dict)
    by_process: bool = False
    differs: str = ""
    probe_cost_s: Mapping[Phase, float] = field(default_factory=dict)
    answers_apart: float = 0.0
    blocks: tuple[Block, ...] = ()
    capacities: tuple[tuple[float | None, float | None], ...] = ()
    spent_s: float = 0.0
    error_share: float = 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """The measurement of one cell.

    Attributes:
        cell: the cell that was measured.
        seconds: the samples, in seconds, of each phase, by worker process. A sample is, depending on the kind of cell,
            a worker's start, a batch, or a request.
        workers: number of workers that were running.
        checked: requests whose answers were timed and compared with the golden answers.
        wrong: why answers were wrong, in words; a run with any wrong answer is no measurement. In an init or handle
            run, where only this session sends requests, failed requests count as wrong.
        failed: why requests failed, in words; only for a run under traffic, which may overload a server.
        batch_sizes: achieved batch size → number of batches.
        throughput: samples answered per second while requests were in flight; None where that has no meaning.
        worker_rss_bytes: resident memory of the largest worker.
        gpu_bytes: memory that torch had reserved on the GPU in the largest worker.
        process_spread: by phase, how far the processes' medians lie apart, as a fraction.
        precision: by phase, the widest 95% interval of any process's median, as a fraction of that median.
        accuracy: (right, asked) over the labelled samples, where the weights are real and all samples were sent.
        weights, samples: where the weights and the samples came from, with the hash of their content.
        devices: where the parameters were, as torch spells it; `none` where nobody knows.
        changed: how answers differed from the model's own answer to the same request alone, where no answer is known.
        changed_answers: number of such answers.
        threads: number of threads that phases ran in; several add up busy time, which may exceed `handle`.
        distinct_bodies: number of different requests; a handler that caches looks fast where they are few.
        errors: failed requests by kind.
        invalid: why the figures are not representative; empty for a VALID run.
        warm_up: what was cut before it: `batches`, `seconds`, and whether the server was `steady` then (None where too
            few batches could tell).
        telemetry: use of CPU, memory and GPU during the run.
        traffic: the part that only a run under traffic has.
        capacity: the part that only a search for the highest rate has.
        paired: the part that only a comparison with a baseline has; `seconds` are then the candidate's.
    """

    cell: Cell
    seconds: Mapping[Phase, Mapping[int, tuple[float, ...]]]
    workers: int
    checked: int = 0
    wrong: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    throughput: float | None = None
    worker_rss_bytes: int | None = None
    gpu_bytes: int = 0
    process_spread: Mapping[Phase, float | None] = field(default_factory=dict)
    precision: Mapping[Phase, float | None] = field(default_factory=dict)
    accuracy: tuple[int, int] | None = None
    weights: str = ""
    samples: str = ""
    devices: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    changed_answers: int = 0
    distinct_bodies: int = 0
    threads: int = 1
    errors: Mapping[str, int] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()
    warm_up: Mapping[str, float | bool | None] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    traffic: Traffic | None = None
    capacity: Capacity | None = None
    paired: Paired | None = None

    @classmethod
    def of(
        cls,
        cell: Cell,
        inputs: ModelInputs,
        evidence: Evidence,
        *,
        failures_are_wrong: bool,
        checked: int | None = None,
        **rest: Any,
    ) -> Self:
        """Return the run of a cell: the evidence of its responses, and the figures that only its kind of cell has.

        Args:
            inputs: the model's artifacts and the samples that were sent.
            evidence: the result of checking the responses.
            failures_are_wrong: whether a failed request counts as a wrong answer, as where only this session sends
                requests, so that the run is no measurement; under traffic, which may overload a server, it does not.
            checked: number of right answers that were timed as well; None for all.
            rest: further attributes.
        """
        artifacts = inputs.artifacts
        return cls(
            cell=cell,
            checked=evidence.checked if checked is None else checked,
            wrong=evidence.rejected if failures_are_wrong else tuple(evidence.wrong),
            failed=() if failures_are_wrong else tuple(evidence.failed),
            errors=dict(evidence.errors),
            devices=tuple(sorted(evidence.devices)),
            changed=tuple(evidence.changed),
            changed_answers=evidence.changed_answers,
            distinct_bodies=min(inputs.distinct_bodies, evidence.judged),  # sent in turn, perhaps not all of them
            weights=artifacts.weights_record,
            samples=inputs.samples_record,
            **rest,
        )

    def __repr__(self) -> str:
        """Return the cell and the stamp: the samples would fill pages where pytest shows a failed assertion."""
        return f"<Run of {self.cell.kind} {self.cell.id}: {self.stamp}>"

    @property
    def validity(self) -> str:
        """`VALID` or `INVALID`."""
        return "INVALID" if self.invalid else "VALID"

    @property
    def left_unanswered(self) -> bool:
        """True when requests were given up at the end, and may still be queued at the server."""
        return Failure.UNANSWERED in self.errors

    @property
    def stamp(self) -> str:
        """`VALID`, or `INVALID` with its reasons."""
        return f"{self.validity}: {'; '.join(self.invalid)}" if self.invalid else self.validity

    def as_dict(self, *, samples: bool = True) -> dict[str, Any]:
        """Return the run as JSON holds it: the cell, the conditions, and the raw samples by phase and process.

        The journal holds this form, the entries of pytest-benchmark hold it by phase, and the report reads either.

        Args:
            samples: whether to include the raw samples. A cell may have a hundred thousand, and one entry per phase.
        """
        deployment, schedule = self.cell.deployment, self.cell.schedule
        paired = self.paired if samples or self.paired is None else replace(self.paired, pairs={}, blocks=())
        # Not even looked at where they are left out: copying the pairs of a cell takes seconds.
        names = [field.name for field in fields(self) if field.name not in ("cell", "seconds", "paired")]
        return {name: _plain(getattr(self, name)) for name in names} | {
            "cell": self.cell.id,
            "kind": self.cell.kind,
            "model": deployment.model.name,
            "device": deployment.device,
            "batch_size": deployment.batching.batch_size,
            "max_batch_delay_ms": deployment.batching.max_batch_delay_ms,
            "load": schedule.name if schedule else None,
            "schedule": _plain(schedule),
            "seconds": {phase: _plain(by_process) for phase, by_process in self.seconds.items()} if samples else {},
            "achieved_batch_size": self.achieved_batch_size,
            "processes": self.processes,
            "validity": self.validity,
            "paired": _plain(paired),
        }

    def pooled(self, phase: Phase) -> list[float]:
        """Return all samples of a phase, process after process."""
        return [value for values in self.seconds.get(phase, {}).values() for value in values]

    @property
    def processes(self) -> int:
        """The number of worker processes that the samples come from."""
        return max((len(by_process) for by_process in self.seconds.values()), default=0)

    @property
    def achieved_batch_size(self) -> float | None:
        """The mean batch size that the worker saw; None where no batch was seen."""
        return mean_size(self.batch_sizes)


def _plain(value: Any) -> Any:
    """Return a value of a run as JSON holds it: a dataclass as a dict, keys as text and in order, a tuple as a list."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in sorted(value.items())}
    return list(value) if isinstance(value, tuple) else value
