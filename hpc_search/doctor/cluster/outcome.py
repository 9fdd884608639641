"""What happened to doctor's array, judged: rows of the table, and what keeps runs from working. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from hpc_search.config.slices import Slice
from hpc_search.doctor.cluster.found import Look, Timing, Tried
from hpc_search.doctor.report import Row, Status
from hpc_search.site.config import Config
from hpc_search.slices.judge import judge
from hpc_search.slices.observed import Observed

#: Seconds by which a measured time may differ from the configured one: signs of life are looked for each
#: second, and SLURM's own clocks run in seconds.
_TOLERANCE_S: Final = 3.0
_SLOW_START_S: Final = 10.0
_TITLE: Final = "one array"
#: Words in a task's log or of its end, and what they mean.
_FAILURES: Final = (
    (
        r"execve\(\)?:? .*(?:No such file|Permission denied)|python\S*: (?:not found|Permission denied)",
        "the nodes cannot run the interpreter {python}",
        "install it where all nodes can read it, or name another: `python:` or `venv:` in the profile",
    ),
    (
        r"No module named",
        "the interpreter of the nodes does not find hpc_search",
        "install it there, or give `modules:`, `conda:` or `venv:` in the profile",
    ),
    (
        r"0:53|could not open stdout file|chdir|No such file or directory",
        "the nodes do not see {directory}",
        "give a directory of a file system that all nodes share",
    ),
    (
        r"TIMEOUT",
        "a node did not start the task's program in a minute",
        "try again; the file system of the environment may be slow",
    ),
)


def failure(words: str, *, python: str, directory: str) -> tuple[str, str]:
    """Return what the end of a task without a record means, and what helps."""
    for pattern, meaning, advice in _FAILURES:
        if re.search(pattern, words, re.IGNORECASE):
            return meaning.format(python=python, directory=directory), advice
    return (
        "the tasks ended without a word",
        "`hpc-search doctor --cluster` again; --partition NAME tries other nodes",
    )


def problems(tried: Tried, wanted: Slice) -> tuple[str, ...]:
    """Return what keeps runs from working there; *wanted* is the slice of the profile."""
    found = []
    if tried.outcome in ("refused", "failed", "not sent"):
        found.append(tried.words)
    look = tried.look
    if look is not None:
        if not look.same:
            found.append(f"{look.node} shows another directory under the same path")
        if look.writable:
            found.append(f"{look.node} cannot write there: {look.writable}")
        if look.worker_code:
            found.append(f"hpc_search does not start on {look.node}: exit status {look.worker_code}")
        if difference := judge(wanted, look.seen or Observed(looked=("environment",))):
            found.append(f"a worker on {look.node} would not take its slice: {difference}")
    return tuple(found)


def tried_rows(tried: Tried, config: Config) -> tuple[Row, ...]:
    """Return the rows of the array."""
    if tried.outcome in ("refused", "failed", "not sent"):
        return (Row(_TITLE, "FAIL", tried.words, "no profile is written"),)
    if tried.outcome == "not started":
        meaning = "nothing was measured: the profile is made from what SLURM said; try again when it is quiet"
        return (Row(_TITLE, "NOTE", tried.words, meaning),)
    if tried.outcome == "skipped":
        return (Row(_TITLE, "n/a", "not sent", "nothing was measured"),)
    found = [Row(_TITLE, "PASS", f"its first task ran {tried.wait or 0:.1f} s after sbatch")]
    found += _look(tried.look) if tried.look else []
    found += _warning(tried)
    found += _kill(tried.timing, config)
    found += _cancel(tried.timing, config)
    found += _requeued(tried.timing, config)
    return tuple(found)


def _look(look: Look) -> Iterator[Row]:
    start = f"after {look.age:.1f} s, `work` in {look.worker:.1f} s"
    if look.worker_code:
        yield Row(
            "worker on a node", "FAIL", f"exit status {look.worker_code}", "hpc_search cannot run there"
        )
    else:
        slow = max(look.age, look.worker) > _SLOW_START_S
        meaning = "the file system of the environment is slow" if slow else f"{look.cores} cores for it"
        yield Row("worker on a node", "SLOW" if slow else "PASS", f"{look.node}: starts {start}", meaning)
    if not look.same or look.writable:
        words = f"cannot be written: {look.writable}" if look.same else "is another one there"
        yield Row("directory on a node", "FAIL", words, "workers cannot work there")
    else:
        yield Row("directory on a node", "PASS", f"the same, writable, umask {look.umask:04o}")
    words = look.sbatch or look.scontrol
    meaning = (
        "workers that end send what is left"
        if not look.sbatch
        else "`status` prints the command to send what is left"
    )
    yield Row(
        "SLURM from a node", "NOTE" if words else "PASS", words or "sbatch and scontrol answer", meaning
    )
    words = "SLURM_JOB_START_TIME and _END_TIME are set" if look.times else "not in the environment"
    meaning = (
        "a worker knows its end without asking" if look.times else "a worker asks scontrol once at its start"
    )
    yield Row("end of the task", "PASS", words, meaning)
    if look.seen is not None:
        yield _slice(look, look.seen)


def _slice(look: Look, seen: Observed) -> Row:
    shown = f"CUDA_VISIBLE_DEVICES={','.join(seen.visible or ())}"
    gpus = "; ".join(line.partition(" (UUID")[0] for line in look.visible) or "nvidia-smi shows nothing"
    unseen = "; ".join(f"{name}: {why}" for name, why in seen.unseen.items())
    if unseen:
        meaning = "workers check by the other ways only (`slice.expect.checks`)"
        return Row("slice on a node", "NOTE", f"{shown}; {gpus}; {unseen}", meaning)
    return Row("slice on a node", "PASS", f"{shown}; {gpus}", "workers check it before they claim")


def _warning(tried: Tried) -> Iterator[Row]:
    timing = tried.timing
    if not tried.signals:
        yield Row(
            "warning before the end",
            "n/a",
            "not measured (--no-signals)",
            "a worker also watches its own time",
        )
        return
    if timing.warned is None:
        words = "no signal before TERM" if timing.limit is not None else "the time limit was not seen in time"
        yield Row("warning before the end", "NOTE", words, "workers watch their time themselves")
    else:
        late = timing.late
        words = f"asked {timing.asked} s before the limit of 60 s, came at {timing.warning or 0:.1f} s"
        meaning = (
            "signal_delay is longer in the profile"
            if late
            else "SLURM warns up to 60 s early: workers save and go on"
        )
        yield Row("warning before the end", "NOTE" if late else "PASS", words, meaning)


def _kill(timing: Timing, config: Config) -> Iterator[Row]:
    if timing.limit is None or timing.killed is None:
        return
    words = f"TERM at {timing.limit:.1f} s, KILL {timing.killed:.1f} s later"
    yield Row("at the limit of 60 s", *_against(timing.killed, config, words))


def _against(measured: float, config: Config, words: str) -> tuple[Status, str, str]:
    wait = config.number("KillWait")
    if wait is not None and abs(measured - wait) > _TOLERANCE_S:
        return "NOTE", words, f"KillWait is {wait} s: count on the shorter one"
    return "PASS", words, "as KillWait says" if wait is not None else ""


def _cancel(timing: Timing, config: Config) -> Iterator[Row]:
    if timing.cancelled is None or timing.cancel_killed is None:
        yield Row("scancel", "NOTE", "no TERM was seen in time", "`cancel` may take longer here")
        return
    words = f"TERM after {timing.cancelled:.1f} s, KILL {timing.cancel_killed:.1f} s later"
    yield Row("scancel", *_against(timing.cancel_killed, config, words))


def _requeued(timing: Timing, config: Config) -> Iterator[Row]:
    if timing.requeue_words:
        meaning = "work that is left at the end of a task is sent again by `submit`"
        yield Row("requeue by itself", "NOTE", timing.requeue_words, meaning)
    elif timing.pending is not None:
        words = f"came back {timing.pending:.1f} s after TERM, SLURM_RESTART_COUNT={timing.restarts}"
        yield Row("requeue by itself", "PASS", words, "a task goes on until the work ends")
    elif timing.requeued:
        wait = config.requeue_wait_s
        words = f"accepted; not back in time (cred_expire or requeue_delay: {wait} s)"
        yield Row("requeue by itself", "PASS", words, "it waits as BeginTime meanwhile")
