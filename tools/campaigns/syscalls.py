"""SIGKILL, and SIGSTOP while others take over, at every file-system call of every operation.

Each operation runs once undisturbed under strace, which counts its calls below RUN; then once a call, on a
fresh copy of the same state, killed in exactly that call; the run is then worked to its end. Closing a
stage is not among the operations: there are no stages yet.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hpc_search.errors import UsageError
from tools.campaigns import ordering, scenes, tracing
from tools.campaigns.common import Tally
from tools.campaigns.scenes import SCENES, Finding, Scene
from tools.campaigns.tracing import Call
from tools.campaigns.workplace import Workplace

HELP: Final = (
    "SIGKILL at every file-system call of plan, claim, finish, checkpoint, archive, collect, submit, work"
)
#: A call of an operation that depends on time is aimed at this often before it counts as not hit.
_AIMS: Final = 6


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    add_choice(parser)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that all campaigns with system calls have."""
    names = [scene.operation for scene in SCENES]
    parser.add_argument("--operations", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--names", nargs="+", metavar="CALL", help="calls of these names only, such as fsync")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th call only (1: all)")
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="operations at a time")
    parser.add_argument(
        "--claiming", choices=("lock", "exclusive"), default="lock", help="how trials are claimed"
    )
    parser.add_argument("--package", type=Path, metavar="DIR", help="directory with the hpc_search to test")


def run(args: argparse.Namespace) -> Tally:
    """Kill every chosen operation at every chosen call."""
    return campaign(args, chosen(args.operations), _killed_everywhere)


def chosen(operations: Sequence[str] | None) -> list[Scene]:
    """Return the scenes of the *operations*, of all where None."""
    return [scene for scene in SCENES if not operations or scene.operation in operations]


def aims(seen: Sequence[Call], args: argparse.Namespace) -> list[Call]:
    """Return the chosen ones of the calls *seen*."""
    return [call for call in seen if not args.names or call.name in args.names][:: args.every]


@dataclass(slots=True)
class Board:
    """The tally that several threads write."""

    tally: Tally = field(default_factory=Tally)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, counts: Counter[str], problems: Iterable[str], line: str) -> None:
        """Add what one operation gave, and print its line."""
        with self._lock:
            self.tally.counts.update(counts)
            found = list(problems)
            self.tally.problems.extend(found)
            print(line, *(f"    PROBLEM: {problem}" for problem in found), sep="\n", flush=True)


Play = Callable[[Workplace, Scene, argparse.Namespace, Board], None]


def campaign(args: argparse.Namespace, wanted: Sequence[Scene], play: Play) -> Tally:
    """Let *play* break every scene of *wanted*, some at a time, each in a workplace of its own."""
    tracing.require_strace()
    waiting: queue.SimpleQueue[Scene] = queue.SimpleQueue()
    for scene in sorted(wanted, key=lambda one: "settle" in one.recovery, reverse=True):
        waiting.put(scene)
    board = Board()

    def worker(number: int) -> None:
        while True:
            try:
                scene = waiting.get_nowait()
            except queue.Empty:
                return
            root = args.directory / f"{number}-{scene.operation}"
            try:
                with Workplace(root, args.package, args.claiming) as place:
                    play(place, scene, args, board)
            except (AssertionError, OSError, ValueError, KeyError, UsageError) as error:
                board.add(Counter(), [f"{scene.operation}: the campaign failed: {error!r}"], scene.operation)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(args.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return board.tally


def _killed_everywhere(place: Workplace, scene: Scene, args: argparse.Namespace, board: Board) -> None:
    start = time.monotonic()
    played, seen = scenes.scene_calls(place, scene)
    findings = [Finding("undisturbed", text) for text in ordering.violations(played.trace)]
    if played.code != 0:
        findings.append(Finding("undisturbed", f"it ended with {played.code}: {played.words}"))
    aimed = aims(seen, args)
    hit: Counter[str] = Counter()
    missed: list[str] = []
    leftovers: Counter[str] = Counter()
    for call in aimed:
        found = _killed(place, scene, call)
        findings += [Finding(f"killed in {call}", text) for text in found.problems]
        leftovers.update(found.leftovers)
        if found.hit:
            hit[call.name] += 1
        else:
            missed.append(str(call))
    counts = Counter({"operations": 1, "calls seen": len(seen), "calls aimed at": len(aimed)})
    counts |= Counter({"calls hit": hit.total(), "temporary names left": leftovers.total()})
    names = ", ".join(f"{name} {hit[name]}/{count}" for name, count in tracing.by_name(aimed).items())
    spent = time.monotonic() - start
    line = (
        f"{scene.operation:<11} seen {len(seen)}, hit {hit.total()} of {len(aimed)} in {spent:.0f} s; {names}"
    )
    line += f"; not hit: {missed}" if missed else ""
    line += f"; left: {dict(leftovers)}" if leftovers else ""
    board.add(counts, scenes.grouped(scene.operation, findings, place), line)


@dataclass(slots=True)
class _Kill:
    hit: bool
    problems: list[str]
    leftovers: list[str]


def _killed(place: Workplace, scene: Scene, call: Call) -> _Kill:
    """Kill *scene* in *call*; aim again where it made other calls this time."""
    problems: list[str] = []
    hit, leftovers = False, list[str]()
    for aim in range(_AIMS):
        place.state(scene.state)
        options = call.injection("signal=KILL", by_path=aim % 2 == 1)
        played = place.traced(scene.operation, options, threads=scene.threads)
        leftovers += place.leftovers()
        hit = tracing.killed_in(played.trace, call, scene.below(place))
        if played.code is None:
            problems.append("it hung")
        problems += scenes.recover(place, scene, played)
        if hit or problems:
            break
    return _Kill(hit, problems, leftovers)
