"""The errors of the harness: one small tree of classes, and one message for each error.

A failed *request* raises none of these errors: its `Response` has an `error`. Only the life cycle
(inputs, archives, Java, server, workers) raises.
"""

from __future__ import annotations


class SuiteError(Exception):
    """An error in three parts: what was wanted, what was found, and what to do.

    Args:
        wanted: what the harness set out to do.
        found: what happened instead; the cause, with the other program's own message where there is one.
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
    """Weights, samples or golden answers are not available."""


class ArchiveError(SuiteError):
    """torch-model-archiver refused the model's files."""


class JavaError(SuiteError):
    """No Java was found that TorchServe can run on."""


class PortTakenError(SuiteError):
    """An explicitly requested port is in use."""


class ServerError(SuiteError):
    """TorchServe did not start, or ended while it was needed."""


class ServerDiedError(ServerError):
    """TorchServe ended by itself while a cell was measured; another one serves the next cell."""


class ManagementError(SuiteError):
    """The management API refused a call; `status` is the HTTP status of its response."""

    def __init__(self, status: int, *, wanted: str, found: str, do: str) -> None:
        super().__init__(wanted=wanted, found=found, do=do)
        self.status = status


class WorkerError(SuiteError):
    """A worker did not become ready; `found` holds the worker's own traceback."""


class WorkerStartError(WorkerError):
    """A worker's own start failed, and TorchServe gave up: the same archive will fail again."""


class MeasurementError(SuiteError):
    """A cell could not be measured: the responses do not belong to the requested measurement."""
