"""SIGSTOP after every file-system call, a take-over while it lasts, SIGCONT.

The stopped worker is declared gone (as `submit` does for a job that the scheduler no longer knows),
another one works the run to its end and seals the results; then the zombie goes on where it stood. Where
it was stopped with a lock in its hand, the others' locks lie.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tools.campaigns import scenes, syscalls
from tools.campaigns.common import Tally
from tools.campaigns.scenes import Finding, Scene
from tools.campaigns.syscalls import Board
from tools.campaigns.tracing import Call
from tools.campaigns.workplace import Played, Workplace, wait_for_stop

HELP: Final = "SIGSTOP after every file-system call of a worker, a take-over, SIGCONT: zombies are harmless"
#: Who takes over does this; elsewhere it works to the end.
_OTHERS: Final = {"checkpoint": "checkpoint"}
#: What a worker does that may be stopped for longer than its lease.
OPERATIONS: Final = (
    "join",
    "claim",
    "finish",
    "give-back",
    "beat",
    "recover",
    "reconcile",
    "exit",
    "checkpoint",
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    syscalls.add_choice(parser)


def run(args: argparse.Namespace) -> Tally:
    """Stop every chosen operation after every chosen call."""
    wanted = [scene for scene in syscalls.chosen(args.operations) if scene.operation in OPERATIONS]
    return syscalls.campaign(args, wanted, _stopped_everywhere)


def _stopped_everywhere(place: Workplace, scene: Scene, args: argparse.Namespace, board: Board) -> None:
    start = time.monotonic()
    _, seen = scenes.scene_calls(place, scene)
    aimed = syscalls.aims(seen, args)
    counts: Counter[str] = Counter({"operations": 1, "calls seen": len(seen), "calls aimed at": len(aimed)})
    findings: list[Finding] = []
    for call, locked in _with_locks(seen):
        if call not in aimed:
            continue
        # Without locks, whoever is stopped between its last look and its claim record makes the same attempt.
        stopped, found = _stopped(place, scene, call, locks_lie=locked or args.claiming == "exclusive")
        counts["zombies"] += stopped
        counts["zombies with a lock"] += stopped and locked
        findings += [Finding(f"stopped after {call}", text) for text in found]
    line = f"{scene.operation:<11} seen {len(seen)}, stopped {counts['zombies']} of {len(aimed)}"
    problems = scenes.grouped(scene.operation, findings, place)
    board.add(counts, problems, f"{line} in {time.monotonic() - start:.0f} s")


def _with_locks(seen: list[Call]) -> Iterator[tuple[Call, bool]]:
    """Yield each call and whether the index's lock is held after it."""
    held = False
    for call in seen:
        if call.name == "flock":
            held = "LOCK_UN" not in call.text
        yield call, held


def _stopped(place: Workplace, scene: Scene, call: Call, *, locks_lie: bool) -> tuple[bool, list[str]]:
    """Stop *scene* after *call*, let another worker finish all, go on; return whether it was stopped."""
    place.state(scene.state)
    options = call.injection("signal=STOP")
    pid, tracer = place.begin(scene.operation, options, threads=scene.threads)
    stopped = wait_for_stop(tracer, pid)
    problems: list[str] = []
    other = Played(0)
    if stopped:
        for worker in place.facts(scene.operation).get("worker", ()):
            place.play("declare-gone", argument=worker)
        other = place.play(_OTHERS.get(scene.operation, "settle-quickly"), "the other", locks_lie=locks_lie)
        problems += [f"while it was stopped: {text}" for text in _wrong(other, locks_lie=locks_lie)]
        os.kill(pid, signal.SIGCONT)
    zombie = place.finish(scene.operation, pid, tracer)
    if zombie.code not in (0, 75):
        problems.append(f"it ended with {zombie.code}: {zombie.words.strip()}")
    after = place.play("settle-quickly", "afterwards")
    problems += _wrong(after, locks_lie=locks_lie)
    if not problems:
        problems += [*scenes.kept(other, after), *_changed(other, after)]
    return stopped, problems


def _wrong(played: Played, *, locks_lie: bool) -> list[str]:
    if played.code != 0:
        return [f"another worker ended with {played.code}: {played.words.strip()}"]
    if "results" not in played.facts:
        return []
    return [text for text in scenes.settled(played) if not (locks_lie and scenes.TWICE in text)]


def _changed(before: Played, after: Played) -> list[str]:
    sealed, now = before.facts.get("results", [{}])[-1], after.facts["results"][-1]
    return [f"the sealed result of trial {n} changed" for n in sealed if sealed[n][3] != now[n][3]]
