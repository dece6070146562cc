"""What was measured in one cell: `Run`, and the parts that only some kinds of cell have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from pytest_torchserve.loadgen.response import Failure
from pytest_torchserve.measure.batches import mean_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.measure.batches import Batches
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
    """What a run under traffic has to say besides its latencies.

    Attributes:
        asked: how many requests left.
        offered_per_s: the rate of an open loop; None for a closed one.
        schedule_delay: percentiles of how late the sender was, in seconds.
        latency: percentiles of latency, in seconds, from when a request should have left.
        waterfall: where the latency went; None where no request was answered.
        batches: what the frontend's batcher made of it.
        slices: figures by time slice; only of a load whose rate changes.
    """

    asked: int
    offered_per_s: float | None
    schedule_delay: tuple[Quantile, ...]
    latency: tuple[Quantile, ...]
    waterfall: LatencyBreakdown | None
    batches: Batches
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Paired:
    """What a run with two arms has: each baseline time beside the candidate's that met the same machine.

    Attributes:
        baseline: what the candidate was held against, in the user's words.
        pairs: by phase and process, (baseline, candidate) in seconds, in the order of time.
        by_process: whether each arm was a process of its own, so that each two processes are one sample; else both
            lived in one.
        differs: which settings of the process the arms disagree about, in words.
        probe_cost_s: by phase, what the probe itself takes of it, in seconds. Smaller changes are ignored.
    """

    baseline: str
    pairs: Mapping[Phase, Mapping[int, tuple[tuple[float, float], ...]]]
    by_process: bool = False
    differs: str = ""
    probe_cost_s: Mapping[Phase, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured in one cell.

    Attributes:
        cell: what was measured.
        seconds: the samples, in seconds, of each phase, by worker process. What a sample is depends on the kind:
            a worker's start, a batch, or a request.
        workers: how many were running.
        checked: requests whose answers were timed and compared with the golden ones.
        wrong: why answers were wrong, in words; a run with any is no measurement. Of an init or handle run, whose
            requests are ours alone, failed ones count as wrong.
        failed: why requests failed, in words; only of a run under traffic, which may overload a server.
        batch_sizes: achieved batch size → number of batches.
        throughput: samples answered per second while requests were in flight; None where that says nothing.
        worker_rss_bytes: resident memory of the largest worker.
        gpu_bytes: what torch had reserved on the GPU in the largest worker.
        process_spread: by phase, how far the processes' medians lie apart, as a fraction.
        precision: by phase, the widest 95% interval of any process's median, as a fraction of it.
        accuracy: (right, asked) over the labelled samples, where the weights are real and all were asked.
        weights, samples: where they came from.
        devices: where the parameters were, as torch spells it.
        errors: failed requests by kind.
        invalid: why the figures say something else than they seem to; empty for a VALID run.
        telemetry: CPU, memory and GPU meanwhile.
        traffic: what only a run under traffic has.
        capacity: what only a search for the highest rate has.
        paired: what only a comparison with a baseline has; `seconds` are then the candidate's.
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
    errors: Mapping[str, int] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()
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
        """Return the run of a cell: what its responses showed, and what only its kind of measurement knows.

        Args:
            inputs: what the model was asked.
            evidence: what checking its responses showed.
            failures_are_wrong: whether a failed request makes the run no measurement, as where all requests are ours
                alone; under traffic, which may overload a server, it does not.
            checked: how many of the answers that were right were timed as well; None for all.
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
            weights=artifacts.weights_kind,
            samples=inputs.samples_source,
            **rest,
        )

    @property
    def validity(self) -> str:
        """`VALID` or `INVALID`."""
        return "INVALID" if self.invalid else "VALID"

    @property
    def left_unanswered(self) -> bool:
        """Whether requests were given up at the end, and may still be queued at the server."""
        return Failure.UNANSWERED in self.errors

    @property
    def stamp(self) -> str:
        """`VALID`, or `INVALID` with its reasons."""
        return f"{self.validity}: {'; '.join(self.invalid)}" if self.invalid else self.validity

    def as_dict(self, *, samples: bool = True) -> dict[str, Any]:
        """Return it as JSON has it: what was measured and how, raw samples by phase and process.

        The journal holds this, the entries of pytest-benchmark hold it by phase, and the report reads either.

        Args:
            samples: whether with the raw samples. A cell may have a hundred thousand, and an entry for each phase.
        """
        deployment, schedule = self.cell.deployment, self.cell.schedule
        paired = self.paired if samples or self.paired is None else replace(self.paired, pairs={})
        return {
            "cell": self.cell.id,
            "kind": self.cell.kind,
            "model": deployment.model.name,
            "device": deployment.device,
            "batch_size": deployment.batching.batch_size,
            "max_batch_delay_ms": deployment.batching.max_batch_delay_ms,
            "workers": self.workers,
            "seconds": _by_text(self.seconds) if samples else {},
            "checked": self.checked,
            "wrong": list(self.wrong),
            "failed": list(self.failed),
            "batch_sizes": {str(size): count for size, count in sorted(self.batch_sizes.items())},
            "achieved_batch_size": self.achieved_batch_size,
            "throughput": self.throughput,
            "processes": self.processes,
            "process_spread": dict(self.process_spread),
            "precision": dict(self.precision),
            "worker_rss_bytes": self.worker_rss_bytes,
            "gpu_bytes": self.gpu_bytes,
            "accuracy": self.accuracy,
            "weights": self.weights,
            "samples": self.samples,
            "devices": list(self.devices),
            "validity": self.validity,
            "invalid": list(self.invalid),
            "errors": dict(self.errors),
            "load": schedule.name if schedule else None,
            "schedule": _fields(schedule),
            "traffic": _fields(self.traffic),
            "capacity": _fields(self.capacity),
            "telemetry": _fields(self.telemetry),
            "paired": _fields(paired),
        }

    def pooled(self, phase: Phase) -> list[float]:
        """All samples of a phase, process after process."""
        return [value for values in self.seconds.get(phase, {}).values() for value in values]

    @property
    def processes(self) -> int:
        """How many worker processes the samples come from."""
        return max((len(by_process) for by_process in self.seconds.values()), default=0)

    @property
    def achieved_batch_size(self) -> float | None:
        """The mean batch size that the worker saw; None where no batch was seen."""
        return mean_size(self.batch_sizes)


def _fields(part: Any) -> dict[str, Any] | None:
    """Return a dataclass as a dict; None for None."""
    return asdict(part) if part is not None else None


def _by_text(seconds: Mapping[Phase, Mapping[int, tuple[float, ...]]]) -> dict[Phase, dict[str, tuple[float, ...]]]:
    """Return the samples with their processes as text, as JSON wants its keys."""
    return {phase: {str(pid): values for pid, values in by_process.items()} for phase, by_process in seconds.items()}
