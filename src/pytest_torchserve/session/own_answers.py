"""Answers where no right ones are known: each request is asked alone, twice, and later answers are compared with it."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_torchserve._util.memo import Memo
from pytest_torchserve.answers import TOLERANCES, parse
from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.errors import InputError
from pytest_torchserve.torchserve.worker_log import worker_traceback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_torchserve.inputs.model_inputs import ModelInputs
    from pytest_torchserve.model import Sample
    from pytest_torchserve.session.deployments import Deployments
    from pytest_torchserve.session.shared import Shared
    from pytest_torchserve.torchserve.endpoint import Endpoint

LIMIT_S = 30.0
"""The time for asking alone; requests that were not reached are not sent at all."""

_SHOWN = 200


class RefusedError(InputError):
    """The model refused a request; `kind` is the kind of the failure, such as `HTTP 413`."""

    def __init__(self, kind: str, *, wanted: str, found: str, do: str) -> None:
        super().__init__(wanted=wanted, found=found, do=do)
        self.kind = kind


class OwnAnswers:
    """The models' own answers to the requests of which no right answer is known, one set a model × device."""

    def __init__(self, shared: Shared, deployments: Deployments) -> None:
        self._shared = shared
        self._deployments = deployments
        self._memo = Memo()
        self._asked: list[str] = []
        self._notice = ""

    def complete(self, deployment: Deployment, inputs: ModelInputs) -> ModelInputs:
        """Return the inputs, each request with an answer: the known one, or the model's own.

        Raises:
            InputError: the model refuses a request.
        """
        if all(sample.answer is not None or not sample.trusted for sample in inputs.samples):
            return inputs
        key = (deployment.model.name, deployment.device)
        samples = self._memo(key, lambda: self._ask(deployment, inputs.samples))
        return replace(inputs, samples=samples)

    def ask_early(self, deployment: Deployment, inputs: ModelInputs) -> None:
        """Ask now, of a worker that is there; what goes wrong is said when the answers are needed."""
        with contextlib.suppress(InputError):
            self.complete(deployment, inputs)

    def forget_failures(self) -> None:
        """Ask again where asking has failed: the server has died, and there is another one."""
        self._memo.forget_failures()

    def _tell(self, name: str) -> None:
        """Keep one notice that names all models whose answers nobody knows."""
        notices = self._shared.notices
        if self._notice in notices:
            notices.remove(self._notice)
        self._asked.append(name)
        self._notice = (
            f"no right answers are known of {', '.join(self._asked)} (--ts-answers): each answer is compared with the "
            "one to the same request alone"
        )
        notices.append(self._notice)

    def _ask(self, deployment: Deployment, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        alone = Deployment(deployment.model, deployment.device, Batching(1))
        endpoint = self._deployments.endpoint(alone, workers=1)
        try:
            found, changed = asked_alone(endpoint, samples)
        except RefusedError as error:
            reasons = self._deployments.explain([error.kind])
            raise InputError(wanted=error.wanted, found="; ".join([error.found, *reasons]), do=error.do) from error
        finally:
            self._deployments.drop_unneeded(alone)
        name = f"{deployment.model.name}-{deployment.device}"
        if len(found) < len(samples):
            self._shared.notices.append(
                f"{name}: {len(found)} of {len(samples)} requests are sent: asking each alone takes {LIMIT_S:.0f} s"
            )
        unknown = sum(sample.answer is None and sample.trusted for sample in samples)
        self._tell(name if unknown == len(samples) else f"{name} ({unknown} of {len(samples)} requests)")
        if changed:
            self._shared.notices.append(
                f"{name}: {len(changed)} of {len(found)} answers change when asked again, and are not compared: "
                f"{changed[0]}"
            )
        return found


def asked_alone(
    endpoint: Endpoint, samples: Sequence[Sample], limit_s: float | None = LIMIT_S
) -> tuple[tuple[Sample, ...], list[str]]:
    """Ask each request alone, twice. Return the requests with their answers, and how answers changed, in words.

    An answer that changes from one time to the next cannot be compared: its request stays without one.

    Args:
        limit_s: the time for it; requests that were not reached are left out.

    Raises:
        RefusedError: the model refuses a request.
    """
    model, device = endpoint.deployment.model, endpoint.deployment.device
    tolerance = model.tolerance or TOLERANCES[device]
    found: list[Sample] = []
    changed: list[str] = []
    ends_s = time.monotonic() + (math.inf if limit_s is None else limit_s)
    for sample in samples:
        if found and time.monotonic() > ends_s:
            break
        logged = endpoint.server.model_log_size()
        first, again = endpoint.ask([sample])[0], endpoint.ask([sample])[0]
        for response in (first, again):
            if response.error is not None:
                raise RefusedError(
                    response.kind or "",
                    wanted=f"an answer of {model.name} to {sample.name}",
                    found=f"{response.error}: {response.body[:_SHOWN].decode(errors='replace').strip()}"
                    + _last_words(endpoint.server.model_log(logged)),
                    do="send what the model takes: --ts-samples (a .jsonl names content type and headers), or mend it",
                )
        if sample.answer is None and sample.trusted:
            asked = replace(sample, answer=parse(first.body), trusted=False)
            why = asked.why_wrong(again.body, tolerance, model.compare)
            if why is not None:
                changed.append(f"{sample.name}: {why}")
            found.append(replace(sample, trusted=False) if why else asked)
        else:
            found.append(sample)
    return tuple(found), changed


def _last_words(log: str) -> str:
    """Return the last line of the traceback in a worker's log, which TorchServe does not send; '' for none."""
    lines = worker_traceback(log).strip().splitlines()
    return f"; the worker says: {lines[-1].strip()}" if lines else ""
