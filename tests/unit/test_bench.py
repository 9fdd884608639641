"""The benches run and print figures; nothing here depends on how fast this machine is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.benchmarks.search import curves, testing

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


def test_the_search_bench_prints_equal_proposals_and_regrets_beside_optunas(tmp_path: Path) -> None:
    shown = bench(
        tmp_path, "search", "--parts", "same,regrets", "--kinds", "cmaes,evolution", "--functions",
        "branin,network", "--workers", "3", "--points", "30", "--repeats", "4",
    )  # fmt: skip

    assert re.search(r"cmaes +branin +59 of 59 points equal", shown)
    row = r"evolution (branin|network) +W=3 +30 points +ours [\d.]+ \([\d.]+-[\d.]+\) +optuna [\d.]+ .* p \d"
    assert len(re.findall(row, shown)) == 2
    assert re.search(r"worse than Optuna's \(one-sided Wilcoxon, Holm over all rows.* of 4 rows", shown)


def test_the_search_bench_prints_epochs_beside_optunas_pruners(tmp_path: Path) -> None:
    place, kept = tmp_path / "place", tmp_path / "kept"
    rng = np.random.default_rng(0)
    ends, speeds = rng.random((150, 1)), rng.random((150, 1)) / 4
    kept.mkdir()
    np.save(curves.path_in(kept), ends + np.exp(-speeds * np.arange(1, 82)))
    place.mkdir()

    shown = bench(place, "search", "--parts", "stopping", "--repeats", "4", "--curves", str(kept))

    assert "150 trainings x 81 epochs, read from" in shown
    for name in ("asha W=1,", "asha W=16,", "hyperband W=1,", "hyperband W=16,"):
        assert name in shown
    assert len(re.findall(r"epochs until the same result +ours [\d.e+]+ .* p [\d.]+", shown)) == 4


def test_the_search_bench_prints_times_of_reports_and_proposals_beside_optunas(tmp_path: Path) -> None:
    shown = bench(tmp_path, "search", "--parts", "proposals,reporting", "--kinds", "tpe", "--trials", "24")

    assert re.search(r"history rebuilt from the journals and proposed from: [\d.]+ s", shown)
    assert re.search(r"tpe: a proposal over Optuna's in memory: [\d.]+ times \(asked: < 1.3 times\)", shown)
    assert len(re.findall(r": over Optuna's journal: [\d.,]+ times \(asked: >= 10 times\)", shown)) == 3


def test_the_stats_bench_prints_what_is_asked_beside_what_was_simulated(tmp_path: Path) -> None:
    shown = bench(tmp_path, "stats", "--quick")

    assert "repeats       spread  0 rho 0 " in shown
    assert "learner       ridge classifiers" in shown
    for figure in ("fixed point's interval covers, folds", "aware interval covers", "contains the true best"):
        assert re.search(
            rf"(PASS|FAIL)  .*{figure}: [\d.]+ of studies \(asked: >= 0.9\d* of studies\)", shown
        )


def test_pairs_beyond_chance_are_found_and_several_tests_are_corrected() -> None:
    ours = [float(number) for number in range(20)]
    assert testing.worse([value + 1 for value in ours], ours) < 0.001
    assert testing.worse(ours, [value + 1 for value in ours]) > 0.999
    assert testing.worse(ours, ours) == 1.0
    # Holm's own example of three: the smallest times three, the next one times two, none below one before.
    assert testing.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_the_same_training_has_the_same_curve_and_learns() -> None:
    one, again = curves.made(2, 5), curves.made(2, 5)
    assert (one == again).all()
    assert one.shape == (2, 5)
    assert min(row[-1] / row[0] for row in one) < 1


def test_the_racing_bench_prints_what_is_saved_beside_optunas_pruners(tmp_path: Path) -> None:
    shown = bench(
        tmp_path, "racing", "--studies", "2", "--peers", "1", "--real", "0", "--spreads", "3",
        "--workers", "4",
    )  # fmt: skip

    assert re.search(r"independent +spread 3 +W=4 +ours +saved +[\d.]+%  regret [\d.]+", shown)
    assert re.search(r"correlated +spread 3 +W=4 +WilcoxonPruner +saved", shown)
