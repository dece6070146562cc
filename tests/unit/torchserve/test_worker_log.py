"""A worker's traceback, found in a log that several workers write to at once."""

from __future__ import annotations

from pytest_torchserve.torchserve.worker_log import worker_traceback


def line(worker, text):
    """Return a line as TorchServe's frontend logs a worker's output."""
    return f"2026-01-01T00:00:00,000 W-{worker}-model_1.0-stdout {text}"


TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in <module>',
    "    import x",
    "ImportError: x",
]


def test_found_without_the_logs_prefixes():
    """The traceback runs from `Traceback` to the line that names the error."""
    log = "\n".join([line(9000, "Torch worker started."), *(line(9000, text) for text in TRACEBACK), line(9000, "end")])
    assert worker_traceback(log) == "\n".join(TRACEBACK)


def test_interleaved_workers_are_told_apart():
    """Two workers fail at the same time with interleaved lines; one whole traceback is found."""
    log = "\n".join(line(worker, text) for text in TRACEBACK for worker in (9000, 9001))
    assert worker_traceback(log) == "\n".join(TRACEBACK)


def test_half_a_traceback_is_none_yet():
    """A traceback without its last line is not shown yet: the server may answer before that line is written."""
    assert worker_traceback("\n".join(line(9000, text) for text in TRACEBACK[:-1])) == ""
    assert worker_traceback("") == ""


def test_the_last_of_a_chain_counts():
    """The last of several chained errors is found: it is the error that ended the worker."""
    chain = [*TRACEBACK, "", "During handling of the above exception, another exception occurred:", ""]
    last = [*TRACEBACK[:-1], "ValueError: y"]
    assert worker_traceback("\n".join(line(9000, text) for text in [*chain, *last])) == "\n".join(last)


def test_another_registrations_workers_are_passed_over():
    """Of several registrations only the named one's traceback is found, though another's came later."""
    log = "\n".join(line(9000, text) for text in TRACEBACK)
    log += "\n" + "\n".join(line(9001, text).replace("model_1.0", "model-b_1.0") for text in [*TRACEBACK[:-1], "E: y"])
    assert worker_traceback(log, "model") == "\n".join(TRACEBACK)
    assert worker_traceback(log, "model-b").endswith("E: y")
    assert worker_traceback(log, "mod") == ""


def test_the_handlers_own_error_and_not_torchserves_after_it():
    """A RuntimeError of the handler's is logged, and then TorchServe's worker ends with another that says nothing."""
    after = [*TRACEBACK[:-1], "RuntimeError: 500 - Unknown exception"]
    assert worker_traceback("\n".join(line(9000, text) for text in [*TRACEBACK, *after])) == "\n".join(TRACEBACK)
    assert worker_traceback("\n".join(line(9000, text) for text in after)) == "\n".join(after)
