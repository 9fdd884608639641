"""`bench packing`: throughput of 1, 2, 4 and 8 workers that share one GPU, with and without MPS."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hpc_search.slices.observe import observe
from hpc_search.slices.observed import Observed
from hpc_search.worker.mps import CONTROL
from tools.benchmarks import common
from tools.benchmarks.common import Report

#: A small network on one batch again and again: what leaves most of a GPU idle.
_TRIAL = """
import time, torch
def train(trial):
    assert trial.device == "cuda", trial.device
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(256, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 10)).cuda()
    optimizer = torch.optim.AdamW(net.parameters(), lr=trial.params["lr"])
    x, y = torch.randn(512, 256, device="cuda"), torch.randint(10, (512,), device="cuda")
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return {"loss": loss.item()}
"""
_SEARCH = """
name: packing
trial: train.py:train
metric: {name: loss, goal: min}
space: {lr: {log_uniform: [1.0e-4, 1.0e-2]}}
strategy: {random: {points: %d, seed: 0}}
"""
_PROFILE = (
    "slice: {request: {gres: 'gpu:1'}, pack: {workers: %d, mps: %s, stagger: 0}, expect: {checks: [nvml]}}\n"
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8], help="workers a GPU")
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--steps", type=int, default=2000, help="training steps a trial")
    parser.add_argument("--width", type=int, default=1024, help="of the hidden layer")


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print.

    Raises:
        RuntimeError: There is no GPU here: nothing is measured, and nothing is made up.
    """
    seen = observe(("nvml", "torch"))
    if reason := _why_not(seen):
        raise RuntimeError(f"NO GPU HERE, NOTHING WAS MEASURED: {reason}")
    gpu = seen.devices[0]
    report.say(f"{gpu.name}, {gpu.memory >> 30} GiB, {gpu.sms} SMs, driver {seen.driver}, torch {seen.torch}")
    daemons = ["never", *(["always"] if shutil.which(CONTROL) else [])]
    if len(daemons) == 1:
        report.say(f"{CONTROL} is not on PATH: without MPS only")
    with common.workplace(given, report) as place:
        (place / "train.py").write_text(
            _TRIAL.replace("WIDTH", str(given.width)).replace("STEPS", str(given.steps))
        )
        alone = 0.0
        for workers in given.workers:
            for daemon in daemons if workers > 1 else ["never"]:
                rate = _rate(place, given.trials, workers, daemon, gpu.uuid)
                alone = alone or rate
                how = "MPS" if daemon == "always" else "no MPS"
                report.say(
                    f"  {workers} workers, {how}: {rate:.1f} trials/min, {rate / alone:.2f} x the first"
                )


def _why_not(seen: Observed) -> str:
    if not seen.devices:
        return seen.unseen.get("nvml", "the driver shows no device")
    return seen.unseen.get("torch", "")


def _rate(place: Path, trials: int, workers: int, daemon: str, uuid: str) -> float:
    """Return trials a minute, from the first submit to the end of the last trial."""
    run = place / "runs" / f"{workers}-{daemon}"
    (place / "search.yaml").write_text(_SEARCH % trials)
    (place / "profile.yaml").write_text(_PROFILE % (workers, daemon) if workers > 1 else "workers: 1\n")
    _verb("plan", place / "search.yaml", "--run", run)
    began = time.monotonic()
    _verb(
        *("submit", run, "--launcher", "local", "--wait", "--workers", str(workers)),
        *("--profile", place / "profile.yaml"),
        environment={"CUDA_VISIBLE_DEVICES": uuid},
    )
    return 60.0 * trials / (time.monotonic() - began)


def _verb(*arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    command: Sequence[str | Path] = [sys.executable, "-m", "hpc_search", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[0]}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
