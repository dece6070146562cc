"""Workers: none, more, fewer, the same processes again, and the workers of two models side by side."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_torchserve import environment
from pytest_torchserve.loadgen.probe_report import ProbeReport

IMAGES = {"batch_size": 4, "max_batch_delay_ms": 500}


def test_without_workers_a_clear_503(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """A model that is registered but has no worker answers 503 and says that there is no worker."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device, workers=0)
    (response,) = ts_ask(endpoint, ts_inputs(ts_catalogue["noop"]).samples[:1])
    assert response.status == 503
    assert b"worker" in response.body.lower()


def test_scaling_is_synchronous(ts_device, ts_catalogue, ts_deploy):
    """After a call to scale TorchServe reports exactly that many workers, all of them ready."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device, workers=0)
    for wanted in (0, 2, 1):
        endpoint.scale(wanted)
        assert [worker.status for worker in endpoint.workers()] == ["READY"] * wanted


def test_workers_persist(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """Requests one after another are answered by the same process, which counts its batches."""
    endpoint = ts_deploy(ts_catalogue["noop"], ts_device)
    sample = ts_inputs(ts_catalogue["noop"]).samples[:1]
    reports = [ProbeReport.of(ts_ask(endpoint, sample)[0]) for _ in range(5)]
    assert {report.pid for report in reports} == {endpoint.workers()[0].pid}
    assert [report.batch - reports[0].batch for report in reports] == [0, 1, 2, 3, 4]


def test_two_models_side_by_side(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """Each model answers its own samples rightly, from its own process, on the requested device."""
    pids = set()
    for model in (ts_catalogue["noop"], ts_catalogue["resnet56"]):
        endpoint = ts_deploy(model, ts_device, **({} if model.network is None else IMAGES))
        samples = ts_inputs(model).samples[:3]
        responses = ts_ask(endpoint, samples)
        assert [s.why_wrong(r.body) for r, s in zip(responses, samples, strict=True)] == [None] * 3
        assert {ProbeReport.of(r).device.partition(":")[0] for r in responses} <= {
            "none",
            {"cpu": "cpu", "gpu": "cuda"}[ts_device],
        }
        pids |= {ProbeReport.of(r).pid for r in responses}
    assert len(pids) == 2


def test_a_broken_image_spoils_nothing_but_itself(ts_device, ts_catalogue, ts_deploy, ts_inputs, ts_ask):
    """In a batch of four the broken image gets a 400 that says why; the other requests get their answers."""
    endpoint = ts_deploy(ts_catalogue["resnet56"], ts_device, **IMAGES)
    samples = list(ts_inputs(ts_catalogue["resnet56"]).samples[:4])
    broken = samples[2]
    samples[2] = type(broken)(name="broken", body=broken.body[: len(broken.body) // 2], answer=broken.answer)
    responses = ts_ask(endpoint, samples)
    assert [response.status for response in responses] == [200, 200, 400, 200]
    assert b"wanted an encoded RGB image" in responses[2].body
    assert [samples[i].why_wrong(responses[i].body) for i in (0, 1, 3)] == [None] * 3
    assert len({ProbeReport.of(response).batch for response in responses}) == 1


@pytest.mark.gpu
def test_workers_beyond_the_gpus_share_them(ts_catalogue, ts_deploy, ts_inputs, ts_ask, ts_session):
    """With one worker more than GPUs, all are spread over the GPUs in turn; none falls back to the CPU."""
    gpus, reason = environment.gpus()
    if not gpus:
        (pytest.fail if ts_session.config.require_gpu else pytest.skip)(f"no GPU: {reason}")
    workers = len(gpus) + 1
    endpoint = ts_deploy(ts_catalogue["resnet56"], "gpu", workers=workers)
    sample = ts_inputs(ts_catalogue["resnet56"]).samples[:1]
    devices = {}
    for _ in range(20 * workers):
        report = ProbeReport.of(ts_ask(endpoint, sample)[0])
        devices[report.pid] = report.device
    assert len(devices) == workers
    counts = Counter(devices.values())
    assert all(device.startswith("cuda") for device in counts)
    assert max(counts.values()) - min(counts.values()) <= 1
