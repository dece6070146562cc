"""The parts of `tools/qualify/sender.py`: our client, the clients it is compared with, and the server they all use."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the catalogue, `models`, is no part of the installed package
