"""The size of a report of 200 cells, and the time a browser takes to open it. Needs chromium and playwright."""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from pytest_torchserve.deployment import Batching, Deployment
from pytest_torchserve.measure import Cell, Run
from pytest_torchserve.model import Model
from pytest_torchserve.phase import HANDLE_PHASES
from pytest_torchserve.report import reader
from pytest_torchserve.report.html.page import write as write_page

CELLS, PROCESSES, BATCHES, OPENED = 200, 3, 100, 10


def document() -> reader.Document:
    """Return two hundred handle cells: fifty models at four batch sizes."""
    rng = random.Random(1)  # noqa: S311 - figures to draw
    runs = []
    for index in range(CELLS):
        model = Model(f"model{index // 4}", "", Path(), "cifar10")
        seconds = {
            phase: {process: tuple(rng.uniform(0.01, 0.02) for _ in range(BATCHES)) for process in range(PROCESSES)}
            for phase in HANDLE_PHASES
        }
        cell = Cell("handle", Deployment(model, "cpu", Batching(2 ** (index % 4))))
        runs.append(Run(cell, seconds, PROCESSES).as_dict())
    return reader.Document(sources=["made"], environment={"cpu_model": "any"}, runs=runs)


def main() -> None:
    """Write the report, open it ten times, and print its size and the times."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on PATH")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        page_file = write_page(document(), Path(folder))
        print(f"{CELLS} cells: written in {time.perf_counter() - begun:.1f} s, {page_file.stat().st_size / 1e6:.2f} MB")
        opened_ms = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
            for _ in range(OPENED):
                page = browser.new_page()
                page.goto(page_file.as_uri())
                opened_ms.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
                page.close()
            browser.close()
    print(f"opened in {statistics.median(opened_ms):.0f} ms (median of {OPENED}; longest {max(opened_ms):.0f} ms)")


if __name__ == "__main__":
    main()
