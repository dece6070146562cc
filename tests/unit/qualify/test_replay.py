"""Recordings of comparisons: kept whole, and judged as they are and with a planted slowdown."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "tools" / "qualify"))

import recordings
import replay

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.measure.blocks import ArmBlock, Block
from pytest_torchserve.measure.run import Paired
from pytest_torchserve.model import Model
from pytest_torchserve.phase import Phase
from pytest_torchserve.session.journal import Journal


def of_same_code(seed=1, processes=8, each=60, noise=0.01, bias=0.0):
    """Return pairs of a handler whose inference takes 30 of 40 ms."""
    rng = random.Random(seed)
    pairs = {phase: {} for phase in (Phase.PREPROCESS, Phase.INFERENCE, Phase.HANDLE, Phase.LATENCY)}
    for process in range(processes):
        own = math.exp(rng.gauss(0, bias))
        for phase, seconds in zip(pairs, (0.008, 0.03, 0.04, 0.05), strict=True):
            pairs[phase][process] = tuple(
                (seconds * math.exp(rng.gauss(0, noise)), seconds * own * math.exp(rng.gauss(0, noise)))
                for _ in range(each)
            )
    return Paired("HEAD", pairs, probe_cost_s={Phase.HANDLE: 1e-6}, spent_s=100.0)


def recorded(paired, name="handle resnet56-cpu-b16"):
    """Return a recorded cell."""
    return recordings.Recorded(name, "2026-11-27", paired)


@pytest.fixture
def journal(tmp_path):
    """A journal of a session that compared two cells and measured one alone."""
    journal = Journal(tmp_path / "journal.jsonl")
    deployment = Deployment(Model("resnet56", "x", None, "cifar10"), "cpu", Batching(16))
    arm = ArmBlock((0.1, 0.2), 3, 2, 50.0)
    loaded = Paired("HEAD", blocks=(Block(7, arm, replace(arm, asked=4)),), error_share=0.75)
    for kind, paired in (("handle", of_same_code(each=300)), ("load", loaded), ("init", None)):
        journal.write("run", Run(Cell(kind, deployment), {}, 1, paired=paired).as_dict())
    for verdict, gating in (("unchanged", True), ("inconclusive", True), ("regressed", False)):
        journal.write("verdict", {"verdict": verdict, "gating": gating})
    return journal.path


def test_a_recording_is_kept_and_read(journal, tmp_path):
    """Pairs and blocks come back as they were; no more than 250 pairs of each process, and nothing of who measured."""
    file = recordings.keep(journal, tmp_path / "kept")
    assert file.name.endswith("Z.json.gz")
    handle, load = recordings.read(tmp_path / "kept")
    assert (handle.name.split()[0], load.name.split()[0]) == ("handle", "load")
    assert sorted(handle.paired.pairs) == ["handle", "inference", "preprocess"]
    whole = json.loads(journal.read_text().splitlines()[0])["paired"]["pairs"]["inference"]
    for process, pairs in handle.paired.pairs[Phase.INFERENCE].items():
        assert len(pairs) == 250
        assert pairs[3] == pytest.approx(whole[str(process)][3], rel=1e-4)
    assert load.paired.blocks == (Block(7, ArmBlock((0.1, 0.2), 3, 2, 50.0), ArmBlock((0.1, 0.2), 4, 2, 50.0)),)
    assert load.paired.error_share == 0.75
    assert replay.processes([handle, load]) == 9


def test_planted_slowdowns_are_found_in_either_arm():
    """5% is found in a quiet cell, whichever arm has it; nothing is found where nothing was planted."""
    cells = [recorded(of_same_code(seed)) for seed in range(3)]
    assert replay.false_ones(cells) == []
    assert replay.planted(cells, Phase.INFERENCE, 1.05) == [True] * 6
    assert replay.planted(cells, Phase.INFERENCE, 1.0) == [False] * 6
    assert replay.planted(cells, Phase.POSTPROCESS, 1.05) == []  # these handlers have none
    assert replay.detectable(cells) < 0.03


def test_a_planted_slowdown_is_part_of_the_whole():
    """What a phase takes longer, `handle` takes longer too; the other phases do not."""
    before = of_same_code()
    after = replay.slowed(before, Phase.INFERENCE, 1.1)
    for (old, new), (same, slower) in zip(before.pairs[Phase.HANDLE][0], after.pairs[Phase.HANDLE][0], strict=True):
        assert same == old
        assert slower - new == pytest.approx(0.003, rel=0.2)
    assert after.pairs[Phase.PREPROCESS] == before.pairs[Phase.PREPROCESS]
    assert replay.swapped(replay.swapped(after)) == after


def test_a_false_verdict_is_named():
    """A cell of the same code whose arms differ by 10% is named, with its date, phase and ratio."""
    (line, *_) = replay.false_ones([recorded(replay.slowed(of_same_code(), Phase.INFERENCE, 1.1))])
    assert line == "2026-11-27 handle resnet56-cpu-b16 inference: regressed, × 1.100"


def test_a_small_effect_is_asked_only_of_cells_that_are_sure():
    """With --ts-min-effect=1% only cells count that say that they can detect 1.5%."""
    sure, unsure = recorded(of_same_code(noise=0.005)), recorded(of_same_code(noise=0.1))
    assert len(replay.planted([sure, unsure], Phase.INFERENCE, 1.02, replay.SMALL_EFFECT)) == 2
    assert len(replay.planted([sure, unsure], Phase.INFERENCE, 1.02)) == 4


def test_biases_between_processes_are_told():
    """Where processes differ by more than intervals assume, the line says so."""
    quiet, loud = replay.biases([recorded(of_same_code())]), replay.biases([recorded(of_same_code(bias=0.03))])
    assert not any("the process is the sample" in line for line in quiet)
    assert sum("the process is the sample" in line for line in loud) == 3


def test_a_night_is_a_session_of_all_kinds(journal, tmp_path):
    """Only a session that compared starts, batches and loads is a night; its gating verdicts are counted."""
    recordings.keep(journal, tmp_path)
    assert recordings.nights(tmp_path) == []
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    (init,) = (line for line in lines if line.get("kind") == "init")
    init["paired"] = lines[0]["paired"]
    journal.write_text("\n".join(map(json.dumps, lines)))
    recordings.keep(journal, tmp_path / "nights")
    assert recordings.nights(tmp_path / "nights") == [{"unchanged": 1, "inconclusive": 1}]


def test_loads_that_were_called_changed_are_counted():
    """A load whose candidate takes twice as long is found; the same code is not."""

    def blocks(factor):
        rng = random.Random(9)
        for number in range(12):
            due = [0.1 * math.exp(rng.gauss(0, 0.1)) for _ in range(300)]
            old, new = (ArmBlock(tuple(one * more for one in due), 300, 300, 60.0) for more in (1.0, factor))
            yield Block(number // 4, old, new)

    same, slower = (
        recorded(Paired("itself", blocks=tuple(blocks(factor))), "load resnet56-cpu-b16-d100-poisson50")
        for factor in (1.0, 2.0)
    )
    assert replay.cells_called([same]) == 0
    assert replay.cells_called([same, slower]) == 1
    assert (replay.finds(slower, "p50"), replay.finds(same, "p50")) == (True, False)
