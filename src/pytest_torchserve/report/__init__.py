"""Saved runs as a page: read (`saved`), drawn (`charts`), and written (`page`)."""

from pytest_torchserve.report.page import write
from pytest_torchserve.report.saved import Document, read

__all__ = ["Document", "read", "write"]
