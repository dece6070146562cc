"""The program behind `golden.Preparations`: `python -m pytest_torchserve.inputs.prepare REQUESTS.json`.

With `--guarded` the program ends as soon as its standard input does, that is, when the process that started it is gone.
A request that fails leaves its traceback in `GOLDEN.error`, and the program goes on with the next request.
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
    """End this process when standard input ends, even while torch is imported or a long computation runs."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare(requests: list[dict[str, object]]) -> None:
    """Make the files of each request, one request after the other."""
    for request in requests:
        golden = Path(str(request["golden"]))
        error = golden.with_suffix(".error")
        # Another session may be making the same files at this moment: the lock lets only one of them write.
        with FileLock(golden.with_suffix(".lock")):
            error.unlink(missing_ok=True)
            try:
                from pytest_torchserve.inputs import torch_side  # noqa: PLC0415 - after the guard: this takes seconds

                torch_side.make(request)
            except Exception:  # noqa: BLE001 - any error concerns this model only, and the session reports it
                error.write_text(traceback.format_exc(), encoding="utf-8")


if __name__ == "__main__":
    if "--guarded" in sys.argv:
        end_with_owner()
    prepare(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
