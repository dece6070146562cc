"""How often verdicts are right, on recordings of the same code and on planted slowdowns: `make bench-verdict`.

Records ten cells, some of every model that a CPU serves, with the same code in both arms, two minutes each, on a real
TorchServe, and keeps them with their date beside those of earlier runs (`recordings.py`). Judges every recorded cell as
it is, and with a slowdown planted in one phase of either arm. Prints how far the arms of one process differ between
processes, and the bound that so many cells support. Finally runs two live sessions, with the same code and with 5%
planted in a handler. Writes build/bench/verdict.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import recordings
import replay
from scipy import stats

from pytest_torchserve.compare.comparison import Rules
from pytest_torchserve.compare.verdict import CONFIDENCE
from pytest_torchserve.phase import Phase

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench"
CELL = ("-k", "resnet56-cpu-b16", "--ts-batch-sizes=16")
CELLS = (
    "noop-cpu-b1- or noop-cpu-b16 or resnet56-cpu-b or densenet161-cpu-b or densenet161-stock-cpu-b4 or "
    "resnet56-stock-cpu-b16"
)
CELL_S = 120.0
TARGETS = {"found_5pct": 0.98, "found_3pct": 0.95, "found_preprocess_10pct": 0.95, "found_2pct": 0.95}

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keep", type=Path, metavar="JOURNAL", help="keep this session of unchanged code, and record none"
    )
    parser.add_argument("--no-record", action="store_true", help="judge the recordings that there are")
    parser.add_argument("--no-live", action="store_true", help="leave the two live runs out")
    return parser.parse_args()


def saved_store(place: Path) -> Path:
    """Return a new store with the archives of the present code."""
    store = place / "store"
    cells = ("tests/test_init.py", "tests/test_stock.py", "-m", "cpu", "-k", "total or (b4 and handle)")
    code, printed = session(ROOT, *cells, "--ts-init-rounds=1", "--ts-cell-seconds=1", f"--ts-model-store={store}")
    if code:
        sys.exit(printed)
    return store


def record(store: Path) -> Path:
    """Record ten cells compared with themselves; return the journal."""
    journal = OUT / "verdict-recording.jsonl"
    journal.unlink(missing_ok=True)
    what = ("tests/test_handle.py", "tests/test_stock.py", "-m", "cpu", "-k", f"({CELLS}) and handle")
    budget = (f"--ts-baseline={store}", f"--ts-baseline-seconds={CELL_S:g}", "--ts-max-regression=99%")
    code, printed = session(ROOT, *what, *budget, f"--ts-journal={journal}")
    if code:
        sys.exit(printed)
    return journal


def judged(recorded: list[recordings.Recorded]) -> dict[str, Any]:
    """Return the figures of all recordings."""
    cells = [one for one in recorded if one.paired.pairs and not one.planted]
    print(*replay.false_ones(cells), sep="\n")
    if not cells:
        sys.exit("wanted: recordings to judge\nfound: none\nwhat to do: leave --no-record out")
    regressed, called = replay.cells_called(cells, replay.CALLED[:1]), replay.cells_called(cells)
    found: dict[str, Any] = {
        "null_cells": len(cells),
        "disjoint_seconds": round(sum(one.paired.spent_s for one in cells)),
        "processes": replay.processes(cells),
        "dates": sorted({one.date for one in cells}),
        "false_regressed": regressed / len(cells),
        "false_improved": (called - regressed) / len(cells),
        "false_bound": 1.0
        if called == len(cells)
        else float(stats.beta.ppf(CONFIDENCE, called + 1, len(cells) - called)),
        "detectable_p50": replay.detectable(cells),
    }
    two = replay.planted(cells, Phase.INFERENCE, 1.02, replay.SMALL_EFFECT)
    all_of_them = replay.planted(cells, Phase.INFERENCE, 1.02)
    plants = {
        "found_5pct": replay.planted(cells, Phase.INFERENCE, 1.05),
        "found_3pct": replay.planted(cells, Phase.INFERENCE, 1.03),
        "found_2pct": two,
        "found_preprocess_10pct": replay.planted(cells, Phase.PREPROCESS, 1.10),
    }
    found |= {name: sum(told) / len(told) if told else None for name, told in plants.items()}
    found["planted_cells"] = {name: len(told) for name, told in plants.items()}
    found["sure_of_2pct"] = len(two) / len(all_of_them) if all_of_them else None
    nights = recordings.nights()
    if nights:
        found["night_gating"] = sum(nights[-1].values())
        found["night_inconclusive"] = nights[-1].get("inconclusive", 0)
        found["night_regressed"] = nights[-1].get("regressed", 0)
    return found | loads([one for one in recorded if one.paired.blocks])


def loads(recorded: list[recordings.Recorded]) -> dict[str, Any]:
    """Return how often a live load was called changed that was not, and how often a planted change was found."""
    null = [one for one in recorded if not one.planted]
    found: dict[str, Any] = {"load_cells": len(null), "load_false": replay.cells_called(null)}
    for metric in ("p50", "p99"):
        told = [replay.finds(one, metric) for one in recorded if one.planted == metric]
        found[f"load_found_{metric}"], found[f"load_planted_{metric}"] = sum(told), len(told)
    return found


def main() -> int:
    """Record, judge, run live and report; return how many targets were missed."""
    given, started_s, place = arguments(), time.monotonic(), OUT / "verdict"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    records = not (given.keep or given.no_record)
    store = saved_store(place) if records or not given.no_live else None
    if given.keep or (records and store):
        print(f"kept: {recordings.keep(given.keep or record(store)).relative_to(ROOT)}")
    recorded = recordings.read()
    print("same code: µs, processes, standard deviation of their medians, what their pairs explain of it")
    print(*replay.biases(recorded), sep="\n")
    found = judged(recorded)
    if store and not given.no_live:
        found["live_ok"], lines = live(store, CELL_S, place)
        print(*lines, sep="\n")
    (OUT / "verdict.json").write_text(json.dumps(found, indent=2))
    missed = report(found)
    print(f"\n{OUT / 'verdict.json'} holds it all; it took {time.monotonic() - started_s:.0f} s")
    return missed


def report(found: dict[str, Any]) -> int:
    """Print every figure beside its target; return how many targets were missed."""
    cells, bound = found["null_cells"], found["false_bound"]
    print(f"\n{cells} disjoint cells of the same code, {found['disjoint_seconds']} s, {found['processes']} processes")
    least = Rules().min_effect
    rows = [
        (f'false "{name}" (either: at most {bound:.1%}, with 95%)', found[key], "0", not found[key])
        for name, key in (("regressed", "false_regressed"), ("improved", "false_improved"))
    ]
    words = {
        "found_5pct": "5% planted in inference, found",
        "found_3pct": "3% planted in inference, found",
        "found_preprocess_10pct": "10% planted in preprocess, found",
        "found_2pct": f"2% planted in inference, found by the {found['sure_of_2pct'] or 0:.0%} that are sure of 1.5%",
    }
    for name, target in TARGETS.items():
        share = found[name]
        rows.append((words[name], share, f"≥ {target:g}", share is not None and share >= target))
    if "live_ok" in found:
        rows.append(("live: same code passes, planted 5% is caught", float(found["live_ok"]), "1", found["live_ok"]))
    for name, got, target, reached in rows:
        shown = "–" if got is None else f"{got:.3f}"
        print(f"{name:72}  {shown:>6}  {target:7} {'reached' if reached else 'MISSED'}")
    words = f"median change that handle can detect (changes below {least:.0%} are ignored)"
    if found["detectable_p50"] is not None:
        print(f"{words:72}  {found['detectable_p50']:6.3f}")
    return sum(not reached for *_, reached in rows)


if __name__ == "__main__":
    sys.exit(main())
