"""How often a verdict is right: unchanged code against itself, and planted slowdowns. `make bench-verdict`.

Records pairs of resnet56 at batch 16 with both sides the same code, on a real TorchServe; replays stretches of that
recording as cells of a given budget, as they are and with a slowdown planted in one phase; asks pytest-benchmark's
threshold about the same samples; and at last runs twice live, with the same code and with 5% planted in a handler.
Writes build/bench/verdict.json.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.intervals import interval
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import HANDLER_PHASES, Phase
from pytest_torchserve.verdict import CONFIDENCE, Rules, Verdict, compare, judge

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "bench"
RECORDING = OUT / "verdict-recording.jsonl"
CELL = ("-k", "resnet56 and cpu and b16", "--ts-batch-sizes=16")
PHASES = (*HANDLER_PHASES, Phase.HANDLE)
PLANTS = {
    "found_inference_5pct": (Phase.INFERENCE, 1.05, 98),
    "found_inference_3pct": (Phase.INFERENCE, 1.03, 90),
    "found_preprocess_10pct": (Phase.PREPROCESS, 1.10, 95),
}
STARTS_S = 18.0
"""Three worker starts and their warm-up, of each budget."""
MATRIX = 36
"""So many comparisons judge in a run of all handle cells, more or less."""

SLOWER = '''

_inference = Cifar10.inference


def inference(self, data):
    """As before, and then 5% of that time more."""
    import time

    start = time.perf_counter()
    answer = _inference(self, data)
    end = time.perf_counter()
    while time.perf_counter() < end + 0.05 * (end - start):
        pass
    return answer


Cifar10.inference = inference
'''


def session(root: Path, *args: str) -> tuple[int, str]:
    """One pytest session of the repository at `root`: exit status and what it printed."""
    command = [sys.executable, "-m", "pytest", f"--rootdir={root}", f"-c{root}/pytest.ini", *args]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def copy_of(place: Path, planted: str) -> Path:
    """This repository's models, handlers and suite, with something added to the handler of resnet56."""
    for name in ("conftest.py", "pytest.ini", "models", "handlers"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
    (place / "tests").mkdir()
    for test in ROOT.glob("tests/test_*.py"):
        shutil.copy(test, place / "tests")
    handler = place / "handlers" / "cifar10.py"
    handler.write_text(handler.read_text() + planted)
    return place


def paired_of(journal: Path) -> dict[Phase, list[list[tuple[float, float]]]]:
    """The pairs in a journal: phase → process → (baseline, candidate)."""
    lines = map(json.loads, journal.read_text().splitlines())
    pairs = next(line["paired"]["pairs"] for line in lines if line.get("paired"))
    return {phase: [[tuple(pair) for pair in by] for by in pairs[phase].values()] for phase in PHASES}


def stretch(recorded: dict, pairs: int, rng: random.Random, plant: tuple[Phase, float] | None) -> dict:
    """One cell: of each process a stretch of the recording, its sides swapped by chance; and a planted slowdown."""
    cell: dict = {phase: {} for phase in PHASES}
    processes = len(recorded[Phase.HANDLE])
    for process in range(processes):
        whole = len(recorded[Phase.HANDLE][process])
        length = min(pairs // processes, whole)
        at, swap = rng.randrange(whole - length + 1), rng.choice((True, False))
        chosen = {phase: recorded[phase][process][at : at + length] for phase in PHASES}
        if swap:
            chosen = {phase: [(new, old) for old, new in of_phase] for phase, of_phase in chosen.items()}
        if plant:
            phase, factor = plant
            more = [new * (factor - 1) for _, new in chosen[phase]]
            for slower in (phase, Phase.HANDLE):
                chosen[slower] = [(old, new + m) for (old, new), m in zip(chosen[slower], more, strict=True)]
        for phase in PHASES:
            cell[phase][process] = tuple(chosen[phase])
    return cell


def verdicts(cell: dict, rules: Rules) -> dict[Phase, Verdict]:
    """What the suite would say of one such cell, alone in its run."""
    deployment = Deployment(Model("resnet56", "", Path(), "cifar10"), "cpu", Batching(16))
    run = Run(cell=Cell("handle", deployment), seconds={}, workers=1, paired=Paired("itself", cell))
    return {one.phase: one.verdict for one in compare([run], rules) if one.gating}


def among(cell: dict, phase: Phase, rules: Rules) -> Verdict:
    """What it would say of one phase where a whole matrix is compared, and one must be surer."""
    found = interval(Paired("itself", cell), phase, 1 - (1 - CONFIDENCE) / MATRIX, rules.min_effect)
    return judge(found, rules.min_effect)


def threshold_is_crossed(earlier: dict, later: dict, limit: float = 0.05) -> bool:
    """What `--benchmark-compare-fail=median:5%` says of two runs of the same code: any entry, one side each."""
    medians = [
        {phase: statistics.median(new for by in cell[phase].values() for _, new in by) for phase in PHASES}
        for cell in (earlier, later)
    ]
    return any(medians[1][phase] / medians[0][phase] - 1 > limit for phase in PHASES)


def simulate(recorded: dict, pairs: int, cells: int, seed: int) -> dict[str, int]:
    """A hundred cells of each kind."""
    rng, rules = random.Random(seed), Rules()  # noqa: S311 - a simulation
    others = ["false_regressed", "null_unchanged", "pytest_benchmark_false", "found_inference_3pct_of_36"]
    found = dict.fromkeys([*others, *PLANTS], 0)
    for _ in range(cells):
        null = stretch(recorded, pairs, rng, None)
        said = verdicts(null, rules)
        found["false_regressed"] += Verdict.REGRESSED in said.values()
        found["null_unchanged"] += set(said.values()) == {Verdict.UNCHANGED}
        found["pytest_benchmark_false"] += threshold_is_crossed(null, stretch(recorded, pairs, rng, None))
        for name, (phase, factor, _) in PLANTS.items():
            cell = stretch(recorded, pairs, rng, (phase, factor))
            found[name] += verdicts(cell, rules).get(phase) is Verdict.REGRESSED
            if name == "found_inference_3pct":
                found["found_inference_3pct_of_36"] += among(cell, phase, rules) is Verdict.REGRESSED
    return found


def live(store: Path, seconds: float, place: Path) -> tuple[bool, list[str]]:
    """The same code and a planted 5%, against the saved store; whether both were judged rightly."""
    lines, right = [], True
    for name, planted, expected in (("same", "", 0), ("slower", SLOWER, 1)):
        root = place / name
        root.mkdir()
        args = (*CELL, f"--ts-baseline={store}", f"--ts-baseline-seconds={seconds:g}", "tests/test_handle.py")
        code, printed = session(copy_of(root, planted), *args)
        told = [line for line in printed.splitlines() if "handle resnet56-cpu-b16 inference:" in line]
        said = [line for line in printed.splitlines() if line.startswith("verdict against")]
        lines += [f"live, {name} code: exit status {code}", *told, *said]
        right &= code == expected and any(line.startswith("regressed") for line in told) == bool(expected)
        if not said:
            print(printed[-4000:])
    return right, lines


def arguments() -> argparse.Namespace:
    """What may be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record-seconds", type=float, default=600)
    budget = "the budget of one cell, worker starts included"
    parser.add_argument("--cell-seconds", type=float, default=120, help=budget)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--journal", type=Path, help="replay this recording instead of making one")
    return parser.parse_args()


def saved_store(place: Path) -> Path:
    """A store that holds the archive as it is now."""
    store = place / "store"
    cell = ("tests/test_init.py", "-k", "resnet56 and cpu and total", "--ts-init-rounds=1")
    code, printed = session(ROOT, *cell, f"--ts-model-store={store}")
    if code:
        sys.exit(printed)
    return store


def record(store: Path, record_s: float) -> Path:
    """The journal of one long comparison of the code with itself."""
    RECORDING.unlink(missing_ok=True)
    budget = (f"--ts-baseline={store}", f"--ts-baseline-seconds={record_s:g}", "--ts-max-regression=99%")
    code, printed = session(ROOT, *CELL, *budget, f"--ts-journal={RECORDING}", "tests/test_handle.py")
    if code:
        sys.exit(printed)
    return RECORDING


def main() -> int:
    """Record, replay, run live, report."""
    given, started_s, place = arguments(), time.monotonic(), OUT / "verdict"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    store = saved_store(place)
    times = paired_of(given.journal or record(store, given.record_seconds))
    total = sum(map(len, times[Phase.HANDLE]))
    handle_s = statistics.median(new for by in times[Phase.HANDLE] for _, new in by)
    # What a cell's budget holds besides three worker starts, at the recording's own pace.
    pairs = int(total * (given.cell_seconds - STARTS_S) / (given.record_seconds - STARTS_S))
    processes = len(times[Phase.HANDLE])
    print(f"{total} pairs of {processes} processes, handle {handle_s * 1e3:.1f} ms; a cell: {pairs} of them in a row")
    found = simulate(times, pairs, given.cells, given.seed)
    ok, lines = live(store, given.cell_seconds, place)
    print(*lines, sep="\n")
    result = {**found, "null_cells": given.cells, "planted_cells": given.cells, "live_ok": ok}
    result |= {"pairs_recorded": total, "pairs_a_cell": pairs, "record_seconds": given.record_seconds}
    (OUT / "verdict.json").write_text(json.dumps(result, indent=2))
    missed = report(found, given.cells, ok=ok)
    print(f"\n{OUT / 'verdict.json'} holds it all; it took {time.monotonic() - started_s:.0f} s")
    return missed


def report(found: dict[str, int], cells: int, *, ok: bool) -> int:
    """Every figure beside its target; how many were missed."""
    rows = [
        (
            'same code, a false "regressed"',
            found["false_regressed"],
            f"≤ {cells // 100}",
            found["false_regressed"] <= cells // 100,
        )
    ]
    rows += [
        (
            f"planted {100 * (factor - 1):.0f}% in {phase}, found",
            found[name],
            f"≥ {target * cells // 100}",
            found[name] >= target * cells // 100,
        )
        for name, (phase, factor, target) in PLANTS.items()
    ]
    rows.append(("live: same code passes, planted 5% is caught", int(ok), "1", ok))
    print(f"\n{'of ' + str(cells) + ' cells':48}  {'got':>5}  target")
    for name, got, target, reached in rows:
        print(f"{name:48}  {got:5}  {target:7} {'reached' if reached else 'MISSED'}")
    print(f"{f'planted 3% in inference, one of {MATRIX} compared':48}  {found['found_inference_3pct_of_36']:5}")
    print(f"{'same code, every gating phase unchanged':48}  {found['null_unchanged']:5}")
    print(f"{'same code, --benchmark-compare-fail=median:5%':48}  {found['pytest_benchmark_false']:5}  false alarms")
    return sum(not reached for *_, reached in rows)


if __name__ == "__main__":
    sys.exit(main())
