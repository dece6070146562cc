"""The share of right verdicts, on unchanged code and on planted slowdowns: `make bench-verdict`.

Records pairs of resnet56 at batch 16 and of noop at batch 1 with the same code in both arms, on a real TorchServe, in
many worker processes. Prints how far the arms differ from process to process. Replays some of these processes as cells
of a given budget, as they are and with a slowdown planted in one phase, and applies pytest-benchmark's threshold to the
same samples. Finally runs two live sessions, with the same code and with 5% planted in a handler. Writes
build/bench/verdict.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from replay import MATRIX, PLANTS, PROCESSES, bias_lines, false_alarms, paired_of, pairs_within, simulate

from pytest_torchserve.phase import Phase

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench"
CELL = ("-k", "resnet56 and cpu and b16", "--ts-batch-sizes=16")
NOOP_CELL = ("-k", "noop and cpu and b1", "--ts-batch-sizes=1")
RECORDED = 24
"""The processes of a recording."""

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
    """Run one pytest session of the repository at `root`; return its exit status and its output."""
    command = [sys.executable, "-m", "pytest", f"--rootdir={root}", f"-c{root}/pytest.ini", *args]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def copy_of(place: Path, planted: str) -> Path:
    """Copy this repository's models, handlers and suite, with `planted` appended to the handler of resnet56."""
    for name in ("conftest.py", "pytest.ini", "models", "handlers"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
    (place / "tests").mkdir()
    for test in ROOT.glob("tests/test_*.py"):
        shutil.copy(test, place / "tests")
    handler = place / "handlers" / "cifar10.py"
    handler.write_text(handler.read_text() + planted)
    return place


def live(store: Path, seconds: float, place: Path) -> tuple[bool, list[str]]:
    """Compare the same code and a planted 5% with the store; return whether both verdicts are right, and the lines."""
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
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record-seconds", type=float, default=600)
    budget = "the budget of one cell, worker starts included"
    parser.add_argument("--cell-seconds", type=float, default=120, help=budget)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    replay = "replay this journal of comparisons of the same code instead of recording; repeatable"
    parser.add_argument("--journal", type=Path, action="append", help=replay)
    parser.add_argument("--no-live", action="store_true", help="leave the two live runs out")
    return parser.parse_args()


def saved_store(place: Path) -> Path:
    """Return a new store with the archives of the present code."""
    store = place / "store"
    cell = ("tests/test_init.py", "-k", "(resnet56 or noop) and cpu and total", "--ts-init-rounds=1")
    code, printed = session(ROOT, *cell, f"--ts-model-store={store}")
    if code:
        sys.exit(printed)
    return store


def record(store: Path, record_s: float) -> list[Path]:
    """Record a long comparison of resnet56 with itself and a shorter one of noop; return their journals."""
    journals = []
    for name, cell, seconds in (("resnet56", CELL, record_s), ("noop", NOOP_CELL, record_s / 2)):
        journal = OUT / f"verdict-recording-{name}.jsonl"
        journal.unlink(missing_ok=True)
        budget = (f"--ts-baseline={store}", f"--ts-baseline-seconds={seconds:g}", "--ts-max-regression=99%")
        options = (*budget, f"--ts-baseline-processes={RECORDED}", f"--ts-journal={journal}", "tests/test_handle.py")
        code, printed = session(ROOT, *cell, *options)
        if code:
            sys.exit(printed)
        journals.append(journal)
    return journals


def main() -> int:
    """Record, replay, run live and report; return how many targets were missed."""
    given, started_s, place = arguments(), time.monotonic(), OUT / "verdict"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    store = None if given.journal and given.no_live else saved_store(place)
    journals = given.journal or record(store, given.record_seconds)
    (resnet, _), (noop, probe_cost_s) = (paired_of(journals, name) for name in ("resnet56-cpu-b16", "noop-cpu-b1"))
    print("same code: µs, standard deviation of the process medians, what their pairs explain of it, mean ± its error")
    print(*bias_lines("resnet56-16", resnet), *bias_lines("noop-1", noop), sep="\n")
    pairs = pairs_within(resnet, given.cell_seconds)
    print(f"{len(resnet[Phase.HANDLE])} processes of resnet56; a cell: {PROCESSES} of them, {pairs} pairs of each")
    found = simulate(resnet, pairs, given.cells, given.seed)
    alarms = false_alarms(noop, probe_cost_s, pairs_within(noop, given.cell_seconds), given.cells, given.seed)
    found["noop_false_alarms"] = alarms
    ok, lines = (None, []) if store is None or given.no_live else live(store, given.cell_seconds, place)
    print(*lines, sep="\n")
    result = {**found, "null_cells": given.cells, "planted_cells": given.cells, "live_ok": ok}
    result |= {"processes_recorded": len(resnet[Phase.HANDLE]), "pairs_a_process": pairs}
    (OUT / "verdict.json").write_text(json.dumps(result, indent=2))
    missed = report(found, given.cells, ok=ok)
    print(f"\n{OUT / 'verdict.json'} holds it all; it took {time.monotonic() - started_s:.0f} s")
    return missed


def report(found: dict[str, int], cells: int, *, ok: bool | None) -> int:
    """Print every figure beside its target; return how many targets were missed."""
    rows = [
        (
            'same code, a false "regressed"',
            found["false_regressed"],
            f"≤ {cells // 100}",
            found["false_regressed"] <= cells // 100,
        ),
        (
            'same code of noop, a false "regressed" or "improved"',
            found["noop_false_alarms"],
            f"≤ {cells // 100}",
            found["noop_false_alarms"] <= cells // 100,
        ),
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
    if ok is not None:
        rows.append(("live: same code passes, planted 5% is caught", int(ok), "1", ok))
    print(f"\n{'of ' + str(cells) + ' cells':52}  {'got':>5}  target")
    for name, got, target, reached in rows:
        print(f"{name:52}  {got:5}  {target:7} {'reached' if reached else 'MISSED'}")
    print(f"{f'planted 3% in inference, one of {MATRIX} compared':52}  {found['found_inference_3pct_of_36']:5}")
    print(f"{'same code, every gating phase unchanged':52}  {found['null_unchanged']:5}")
    print(f"{'same code, --benchmark-compare-fail=median:5%':52}  {found['pytest_benchmark_false']:5}  false alarms")
    return sum(not reached for *_, reached in rows)


if __name__ == "__main__":
    sys.exit(main())
