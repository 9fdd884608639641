"""`bench slots`: how much of the slots that SLURM gave is spent inside of trials, and what SLURM is asked."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tests.slurm.calls import Calls, counted
from tests.slurm.cluster import CLUSTER, PROFILE, is_up, why_not
from tools.benchmarks import common, synthetic
from tools.benchmarks.common import Report

_SLEEP: Final = "import time\n" + synthetic.NOTHING.replace("return", "time.sleep(SECONDS)\n    return")
_LOOP: Final = """\
def loop(turns):
    total = 0
    for number in range(turns):
        total += number * number % 7
    return total
"""
_SPIN: Final = _LOOP + synthetic.NOTHING.replace("return", "loop(TURNS)\n    return")
#: Seconds of processor time that one CPU-bound trial takes.
_SPINS: Final = (0.01, 0.03, 0.1)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--slots", type=int, default=16, help="tasks that run at once")
    parser.add_argument("--trials", type=int, default=1000, help="trials of sleep 1")
    parser.add_argument("--short-trials", type=int, default=10_000, help="trials of sleep 0.01")
    parser.add_argument("--only", choices=("long", "short", "spin"), nargs="*", default=[])
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="also submitit, a task a trial"
    )


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print.

    Raises:
        RuntimeError: There is no cluster here, or trials are missing.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    with common.workplace(given, report) as place, _cluster(), counted(place) as calls:
        wanted = given.only or ("long", "short", "spin")
        if "long" in wanted:
            _long(place, given, report, calls)
        if "short" in wanted:
            _short(place, given, report, calls)
        if "spin" in wanted:
            for seconds in _SPINS:
                _spin(place, given, report, seconds)


@contextmanager
def _cluster() -> Iterator[None]:
    was_up = is_up()
    if not was_up:
        subprocess.run([CLUSTER, "up"], check=True, capture_output=True)
    directory = Path(os.environ.get("HPC_SEARCH_CLUSTER_DIR", "/tmp/hpc_search-cluster"))
    os.environ["SLURM_CONF"] = str(directory / "etc" / "slurm.conf")
    try:
        yield
    finally:
        if not was_up:
            subprocess.run([CLUSTER, "down"], check=False, capture_output=True)


class _Searched(NamedTuple):
    layout: Layout
    ends: list[lines.End]
    #: By worker: wall-clock time of its first start and of its exit.
    spans: dict[str, tuple[float, float]]

    @property
    def slot_seconds(self) -> float:
        """Seconds of all slots from the first trial's start in each to the worker's exit."""
        return sum(end - start for start, end in self.spans.values())


def _search(place: Path, code: str, trials: int, slots: int) -> _Searched:
    seeds = -(-trials // 5)
    text = synthetic.search_text("  width: [1, 2, 3, 4, 5]\n", seeds=seeds)
    path = synthetic.write_search(place, text, code)
    layout = Layout(place / "run")
    common.timed(common.hpc("plan", path, "--run", layout.root))
    common.timed(
        [
            *common.hpc("submit", layout.root, "--launcher", "slurm", "--profile", PROFILE),
            *("--set", "mem=200M", "--set", f"workers={slots}", "--wait"),
        ]
    )
    _finished(layout)
    return _read(layout, trials)


def _finished(layout: Layout) -> None:
    """Wait until every worker has said that it exits: their slots are free then."""
    while history.live_workers(layout):
        time.sleep(0.2)
        if all(_exited(layout, worker) for worker in history.live_workers(layout)):
            return


def _exited(layout: Layout, worker: str) -> bool:
    return any(
        isinstance(record, lines.Exit) for record in history.records(layout, worker, frozenset({b"exit"}))
    )


def _read(layout: Layout, trials: int) -> _Searched:
    ends: list[lines.End] = []
    times: defaultdict[str, list[float]] = defaultdict(list)
    for line in history.lines(layout, frozenset({b"start", b"end", b"exit"})):
        record = lines.parse_line(line.data)
        if record is not None:
            times[line.worker].append(record.t)
        if isinstance(record, lines.End) and record.state == "done":
            ends.append(record)
    if len(ends) != trials:
        raise RuntimeError(f"{len(ends)} of {trials} trials were done: see {layout.root}")
    spans = {worker: (min(found), max(found)) for worker, found in times.items() if len(found) > 1}
    return _Searched(layout, ends, spans)


def _long(place: Path, given: argparse.Namespace, report: Report, calls: Calls) -> None:
    calls.clear()
    began = time.time()
    found = _search(place / "long", _SLEEP.replace("SECONDS", "1"), given.trials, given.slots)
    share = 100 * given.trials / found.slot_seconds
    first, last = min(start for start, _ in found.spans.values()), max(end for _, end in found.spans.values())
    report.say(
        f"{given.trials} trials of sleep 1 on {len(found.spans)} slots: {last - first:.1f} s, "
        f"first trial {first - began:.1f} s after the plan began"
    )
    report.figure("slot time inside of trials", share, 95, "%", at_least=True)
    _say_calls(calls, report)
    if given.peers:
        _submitit(place / "submitit", given, report)


def _say_calls(calls: Calls, report: Report) -> None:
    tasks = calls.by_task()
    most = max((counts.total() for counts in tasks.values()), default=0)
    kinds = dict(sum(tasks.values(), Counter()))
    report.say(
        f"  SLURM was asked by submit --wait {dict(calls.at_login())}; by {len(tasks)} workers {kinds}"
    )
    report.figure("calls of one worker, at most", most, 3, "", at_least=False)


def _submitit(place: Path, given: argparse.Namespace, report: Report) -> None:
    """Run the same as one array task a trial, by submitit as it comes."""
    import submitit

    executor = submitit.SlurmExecutor(folder=str(place), max_num_timeout=1)
    options: Mapping[str, Any] = {
        "time": 10,
        "mem": "200M",
        "array_parallelism": given.slots,
        "partition": "low",
        "cpus_per_task": 1,
    }
    executor.update_parameters(**options)
    began = time.time()
    jobs = executor.map_array(time.sleep, [1.0] * given.trials)
    name = jobs[0].job_id.partition("_")[0]
    while subprocess.run(
        ["squeue", "-h", "-j", name], check=False, capture_output=True, text=True
    ).stdout.strip():
        time.sleep(1)
    seconds = time.time() - began
    share = 100 * given.trials / (given.slots * seconds)
    files = sum(1 for _ in place.rglob("*"))
    report.say(
        f"  submitit, a task a trial: {seconds:.0f} s, {share:.0f} % of slot time in trials, {files} files"
    )


def _short(place: Path, given: argparse.Namespace, report: Report, calls: Calls) -> None:
    calls.clear()
    found = _search(place / "short", _SLEEP.replace("SECONDS", "0.01"), given.short_trials, given.slots)
    first, last = min(start for start, _ in found.spans.values()), max(end.t for end in found.ends)
    rate = given.short_trials / (last - first)
    report.say(f"{given.short_trials} trials of sleep 0.01 on {len(found.spans)} slots: {last - first:.1f} s")
    report.figure("sleep 0.01, from the first start to the last end", rate, 200, "trials/s", at_least=True)
    _say_calls(calls, report)


def _spin(place: Path, given: argparse.Namespace, report: Report, seconds: float) -> None:
    """Compare CPU-bound trials with the same loops in one bare process a core."""
    cores = len(os.sched_getaffinity(0))
    turns = round(seconds / _seconds_a_turn())
    trials = 5 * round(40 / seconds / 5)
    bare = _LOOP + f"import sys\nfor _ in range(int(sys.argv[1])):\n    loop({turns})\n"
    argv = common.script(bare, trials // cores)
    began = time.perf_counter()
    processes = [subprocess.Popen(argv) for _ in range(cores)]
    for process in processes:
        process.wait()
    alone = time.perf_counter() - began
    found = _search(place / f"spin-{seconds}", _SPIN.replace("TURNS", str(turns)), trials, given.slots)
    ours = max(end.t for end in found.ends) - min(start for start, _ in found.spans.values())
    report.say(
        f"{trials} trials of {seconds:g} s of processor time: {ours:.1f} s; "
        f"bare, a process a core: {alone:.1f} s"
    )
    report.figure(f"of a bare loop, trials of {seconds:g} s", 100 * alone / ours, 70, "%", at_least=True)


def _seconds_a_turn() -> float:
    code = _LOOP + "import time\nt = time.process_time()\nloop(3_000_000)\nprint(time.process_time() - t)\n"
    found = [
        float(subprocess.run(common.script(code), check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(found) / 3e6
