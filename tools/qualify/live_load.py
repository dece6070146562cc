"""Live verdicts on a load of resnet56, kept with their date: of the same code, and of a change that should be found.

One run takes a quarter of an hour: four minutes of unchanged code, which say what is detectable for p50 and for p99,
and four minutes for each with 1.5 times that planted as a wait at the start of `handle`, outside its three methods.
`verdict.py` counts the recordings.
"""

from __future__ import annotations

import json
import shutil
import sys

import recordings
from verdict import OUT, copy_of, saved_store, session

LOAD = ("tests/test_load.py", "-m", "cpu", "-k", "resnet56-cpu", "--ts-loads=poisson:50")
SECONDS = 240
OVER = 1.5
WAIT = '''

_handle = Cifar10.handle


def handle(self, data, context):
    """Wait, and then as before."""
    import time

    time.sleep({seconds})
    return _handle(self, data, context)


Cifar10.handle = handle
'''


def main() -> None:
    """Run the three sessions, and keep them."""
    place = OUT / "live-load"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    store, added_s = saved_store(place), {"": 0.0}
    for planted in ("", "p50", "p99"):
        root, journal = place / (planted or "same"), place / f"{planted or 'same'}.jsonl"
        root.mkdir()
        copy_of(root, WAIT.format(seconds=added_s[planted]) if planted else "")
        budget = (f"--ts-baseline={store}", f"--ts-baseline-seconds={SECONDS}", f"--ts-journal={journal}")
        code, printed = session(root, *LOAD, *budget)
        lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
        told = {line["metric"]: line for line in lines if line["line"] == "verdict"}
        if not told:
            sys.exit(printed)
        kept = recordings.keep(journal, planted=planted).name
        print(f"{planted or 'same code'}, {added_s[planted] * 1e3:.1f} ms: exit status {code}, {kept}")
        for metric in ("p50", "p99"):
            found = told[metric]
            print(f"  {metric}: {found['verdict']} {json.dumps(found['interval'])}", flush=True)
            if not planted:
                detectable = found["interval"]["detectable"]
                if detectable is None:
                    sys.exit(f"{metric}: {found['why']}")
                added_s[metric] = OVER * detectable * found["baseline"]


if __name__ == "__main__":
    main()
