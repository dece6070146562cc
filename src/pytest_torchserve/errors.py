"""The errors of the harness: one small tree, one message each.

A failed *request* is never one of these: it is a `Response` with an `error`. Only the life cycle
(inputs, archives, Java, server, workers) raises.
"""

from __future__ import annotations


class SuiteError(Exception):
    """What was wanted, what was found, and what to do about it.

    Args:
        wanted: what the harness set out to do.
        found: what it met instead; the cause, with the other side's own words where there are any.
        do: what the reader can do.
    """

    def __init__(self, *, wanted: str, found: str, do: str) -> None:
        super().__init__(f"wanted: {wanted}\nfound: {found}\nwhat to do: {do}")
        self.wanted = wanted
        self.found = found
        self.do = do


class OptionError(SuiteError):
    """An option's value cannot be used."""


class InputError(SuiteError):
    """Weights, samples or golden answers cannot be had."""


class ArchiveError(SuiteError):
    """torch-model-archiver refused the model's files."""


class JavaError(SuiteError):
    """No Java that TorchServe can run on."""


class PortTakenError(SuiteError):
    """An explicitly wanted port is in use."""


class ServerError(SuiteError):
    """TorchServe did not start, or ended while it was needed."""


class ManagementError(SuiteError):
    """The management API refused a call; `status` is the HTTP status it answered with."""

    def __init__(self, status: int, *, wanted: str, found: str, do: str) -> None:
        super().__init__(wanted=wanted, found=found, do=do)
        self.status = status


class WorkerError(SuiteError):
    """A worker did not become ready; `found` holds the worker's own traceback."""


class MeasurementError(SuiteError):
    """A cell could not be measured: what came back was no measurement of what was asked for."""
