"""The parts of `tools/qualify/sender.py`: our sender, the clients it is measured against, and what they all ask."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the catalogue, `models`, is no part of the installed package
