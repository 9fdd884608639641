"""The benches run and print figures; nothing here depends on how fast this machine is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(place: Path, *arguments: str) -> str:
    argv = [sys.executable, str(ROOT / "tools" / "bench"), *arguments, "--dir", str(place)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(place.iterdir())
    return done.stdout


def test_the_ledger_bench_prints_rates_waits_and_that_no_trial_was_claimed_twice(tmp_path: Path) -> None:
    shown = bench(
        tmp_path, "ledger", "--workers", "2", "--seconds", "0.3", "--rounds", "1", "--finished", "100",
        "--no-peers",
    )  # fmt: skip

    assert "machine: " in shown
    assert re.search(r"one fsync a trial +W=2 +[\d,.]+ .*/s", shown)
    assert re.search(r"waits in ms: claim p50 [\d.]+", shown)
    assert shown.count("claimed twice 0, lost 0") == 2


def test_the_overhead_bench_prints_start_to_start_and_the_rate_of_short_trials(tmp_path: Path) -> None:
    shown = bench(
        tmp_path, "overhead", "--trials", "20", "--rounds", "1", "--slots", "2", "--sleep-trials", "20",
        "--no-peers", "--no-torch",
    )  # fmt: skip

    assert re.search(r"start to start, without torch: [\d.]+ ms \(asked: < 30 ms\)", shown)
    assert re.search(r"sleep 0.01 in 2 workers, all running: [\d.,]+/s", shown)


def test_the_checkpoint_bench_prints_ratios_to_the_bare_calls_and_to_torch(tmp_path: Path) -> None:
    shown = bench(tmp_path, "checkpoint", "--sizes", "2", "--rounds", "2")

    assert "2 MB of state, 174 tensors, 2 interleaved rounds" in shown
    assert re.search(r"raw, 64 KiB a write +[\d.]+ \([\d.]+-[\d.]+, n=2\) m?s +[\d.]+\n", shown)
    assert re.search(r"saving 2 MB, durable, checksummed, read back: [\d.]+ of raw \(asked: >= 0.8", shown)
    assert re.search(r"loading 2 MB with verification: [\d.]+ of torch.load \(asked: >= 0.9", shown)


def test_the_strategies_bench_prints_what_is_found_and_when_beside_optuna(tmp_path: Path) -> None:
    shown = bench(
        tmp_path, "strategies", "--kinds", "evolution", "--functions", "branin", "--workers", "1,3",
        "--points", "30", "--repeats", "3", "--long", "40",
    )  # fmt: skip

    row = r"evolution branin +W=\d +ours [\d.]+ \([\d.]+-[\d.]+\) in [\d.]+ ms +optuna [\d.]+ .* p\(ours"
    assert len(re.findall(row, shown)) == 2
    assert re.search(r"evolution: a proposal after 40 points: [\d.]+ ms \(asked: < 100 ms\)", shown)
