"""The program behind `golden.Preparations`: `python -m pytest_torchserve.inputs.prepare REQUESTS.json`.

With `--guarded` it ends as soon as its standard input does, that is when the process that started it is gone.
Each request is done by itself: one that fails leaves its traceback in `GOLDEN.error`, and the next is done.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from filelock import FileLock


def end_with_owner() -> None:
    """End this process when standard input does; importing torch and long sums included."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare(requests: list[dict[str, object]]) -> None:
    """Make what is missing, one request after the other."""
    for request in requests:
        golden = Path(str(request["golden"]))
        error = golden.with_suffix(".error")
        # Another session may be making the same at this moment: then it is there when the lock is.
        with FileLock(golden.with_suffix(".lock")):
            error.unlink(missing_ok=True)
            try:
                from pytest_torchserve.inputs import torch_side  # noqa: PLC0415 - after the guard: it takes seconds

                torch_side.make(request)
            except Exception:  # noqa: BLE001 - whatever it is, it is this model's, and the owner reports it
                error.write_text(traceback.format_exc(), encoding="utf-8")


if __name__ == "__main__":
    if "--guarded" in sys.argv:
        end_with_owner()
    prepare(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
