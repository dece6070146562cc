"""The program behind `golden.Preparations`: `python -m pytest_torchserve.inputs.prepare REQUESTS.json`.

With `--guarded` it ends as soon as its standard input does, that is when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path


def end_with_owner() -> None:
    """End this process when standard input does; importing torch and long sums included."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if "--guarded" in sys.argv:
        end_with_owner()
    from pytest_torchserve.inputs import torch_side  # after the guard: importing torch takes seconds

    for request in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        torch_side.make(request)
    os._exit(0)  # torch has nothing to tidy up, and the guard's thread would be waited for
