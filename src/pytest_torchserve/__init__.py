"""Performance suite for models served with TorchServe.

The public names are those that a repository's `conftest.py` needs to say what it serves.
"""

from pytest_torchserve.deployment import Batching
from pytest_torchserve.model import Model, Weights

__all__ = ["Batching", "Model", "Weights"]
__version__ = "0.1.0"
