"""Record the answers of a trusted archive: `tsperf record-answers`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pytest_torchserve._util.time_accounting import TimeAccounting
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import InputError
from pytest_torchserve.inputs import answers_file, own
from pytest_torchserve.session.own_answers import asked_alone
from pytest_torchserve.torchserve import archive, java, own_models
from pytest_torchserve.torchserve.endpoint import Endpoint
from pytest_torchserve.torchserve.server import Server
from pytest_torchserve.torchserve.settings import ServerSettings


def record(place: Path, samples: Path, output: Path, python: Path | None = None) -> tuple[int, list[str]]:
    """Serve the archive on the CPU, ask each request alone, twice, and write the answers to `output`.

    Returns:
        how many answers were written, and in words which changed from one time to the next.

    Raises:
        SuiteError: the archive cannot be served, or refuses a request.
    """
    found = own_models.models(own_models.find([place]), samples, None)
    if len(found) != 1:
        names = ", ".join(model.name for model in found)
        raise InputError(wanted=f"one archive at {place}", found=names, do="name one of them")
    (model,) = found
    output.parent.mkdir(parents=True, exist_ok=True)
    inputs = own.inputs(own.artifacts(model, None), None)
    with tempfile.TemporaryDirectory() as store:
        made = archive.build(inputs.artifacts, "cpu", Path(store))
        server = Server(java.find(), Path(store), ServerSettings(), python=python)
        try:
            server.start()
            endpoint = Endpoint(server, Deployment(model, "cpu", Batching(1)), made, TimeAccounting())
            endpoint.register()
            endpoint.scale(1)
            # An answer that stands beside a request is not the archive's: what is recorded is what it answers now.
            asked = [replace(sample, answer=None, trusted=True) for sample in inputs.samples]
            answered, changed = asked_alone(endpoint, asked, limit_s=None)
        finally:
            server.stop()
    answers_file.write(output, answered)
    return sum(sample.answer is not None for sample in answered), changed
