"""`bench overhead`: start to start of two trivial trials in one worker, beside fresh processes."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report

_PLAIN: Final = synthetic.NOTHING
_TORCH: Final = "import torch\n" + _PLAIN
_SLEEP: Final = "import time\n" + _PLAIN.replace("return", "time.sleep(0.01)\n    return")
_SPACE: Final = "  width: [1, 2, 3, 4, 5]\n"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--trials", type=int, default=200, help="trials of a worker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=16, help="workers of the trials that sleep 0.01 s")
    parser.add_argument("--sleep-trials", type=int, default=4000, help="how many of those")
    parser.add_argument(
        "--torch", action=argparse.BooleanOptionalAction, default=True, help="also with torch in the template"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    with common.workplace(given, report) as place:
        report.say(
            f"start to start of {given.trials} trivial trials in one worker, every trial a forked process"
        )
        cases = {"without torch": _PLAIN} | ({"torch in the template": _TORCH} if given.torch else {})
        for name, code in cases.items():
            found = [_gaps(place / f"{name}-{number}", code, given.trials) for number in range(given.rounds)]
            medians = [statistics.median(gaps) for gaps in found]
            slow = common.quantile([gap for gaps in found for gap in gaps], 0.99)
            report.say(
                f"  {name}: {common.spread(medians, 's')}; 99th percentile {common.number(1e3 * slow)} ms"
            )
            report.figure(
                f"start to start, {name}", 1e3 * statistics.median(medians), 30, "ms", at_least=False
            )
        _sleeping(place, given, report)
        if given.peers:
            _peers(place, given.rounds, report)


def _make(place: Path, code: str, trials: int) -> Layout:
    text = synthetic.search_text(_SPACE, seeds=-(-trials // 5))
    path = synthetic.write_search(place, text, code)
    common.timed(common.hpc("plan", path, "--run", place / "run"))
    return Layout(place / "run")


def _ends(layout: Layout) -> list[lines.End]:
    found = [lines.parse_line(line.data) for line in history.lines(layout, frozenset({b"end"}))]
    return [record for record in found if isinstance(record, lines.End) and record.state == "done"]


def _gaps(place: Path, code: str, trials: int) -> list[float]:
    layout = _make(place, code, trials)
    common.timed(common.hpc("work", layout.root, "--trials", str(trials)))
    started = sorted(end.started for end in _ends(layout))
    if len(started) != trials:
        raise RuntimeError(f"{len(started)} of {trials} trials were done: see {layout.root}")
    return [after - before for before, after in pairwise(started)]


def _sleeping(place: Path, given: argparse.Namespace, report: Report) -> None:
    layout = _make(place / "sleep", _SLEEP, given.sleep_trials)
    argv = common.hpc("work", layout.root)
    workers = [
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=common.ROOT)
        for _ in range(given.slots)
    ]
    codes = {worker.wait() for worker in workers}
    ends = _ends(layout)
    if codes != {0} or len(ends) < given.sleep_trials:
        raise RuntimeError(f"the workers ended with {codes}, {len(ends)} of {given.sleep_trials} trials done")
    rate = _steady_rate(layout)
    report.say(
        f"{len(ends)} trials of sleep 0.01 in {given.slots} workers, all running: {common.number(rate)}/s"
    )
    if given.slots == 16:
        report.figure("sleep 0.01 in 16 workers", rate, 200, "trials/s", at_least=True)


def _steady_rate(layout: Layout) -> float:
    """Return trials a second from when the last worker had started its first trial."""
    firsts: dict[str, float] = {}
    moments: list[float] = []
    for line in history.lines(layout, frozenset({b"end"})):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.End):
            firsts[line.worker] = min(firsts.get(line.worker, record.started), record.started)
            moments.append(record.t)
    begin = max(firsts.values())
    after = [moment for moment in moments if moment > begin]
    return len(after) / max(0.001, max(moments) - begin)


def _peers(place: Path, rounds: int, report: Report) -> None:
    fresh = [common.timed(common.script("import torch")) for _ in range(rounds)]
    report.say(f"  a fresh process that imports torch, a trial: {common.spread(fresh, 's')}")
    report.say(f"  one submitit job a trial, local executor: {common.spread(_submitit(place, rounds), 's')}")


def _submitit(place: Path, rounds: int) -> list[float]:
    import submitit

    executor = submitit.LocalExecutor(folder=str(place / "submitit"))
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        job = executor.submit(int, 1)
        while not job.done():
            time.sleep(0.005)
        job.result()
        found.append(time.perf_counter() - started)
    return found
