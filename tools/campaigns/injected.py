"""An error injected into every file-system call of what the ledger, the checkpoints, collect and a worker do.

Each operation runs once undisturbed under strace; then once a call and errno, with that call failing. It may
end well, or with words and an exit code that says what to do; then the run is worked to its end.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tools.campaigns import ordering, scenes, syscalls, tracing
from tools.campaigns.common import Tally
from tools.campaigns.scenes import Finding, Scene
from tools.campaigns.syscalls import Board
from tools.campaigns.tracing import Call
from tools.campaigns.workplace import Played, Workplace

HELP: Final = (
    "errors injected into every file-system call of the ledger, the checkpoints, collect and a worker"
)
ERRORS: Final = (
    "EIO", "ENOSPC", "EDQUOT", "ESTALE", "ENOLCK", "ENOSYS", "EINTR", "EMFILE", "EROFS", "EACCES",
)  # fmt: skip
#: What only a person can put right, so that "try again" would be the wrong advice.
_FOR_THE_USER: Final = frozenset({"EROFS", "EACCES", "ENOSYS"})
#: Operations whose calls depend on time or start programs: each call fails with so many of the errors.
_SAMPLED: Final = {"work": 2, "submit": 1, "plan": 3}
_CODES: Final = {0: "went on", 75: "exit 75, with words", 2: "exit 2, with words", 4: "exit 4, with words"}


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    syscalls.add_choice(parser)
    parser.add_argument("--errors", nargs="+", choices=ERRORS, metavar="ERRNO", default=ERRORS)
    parser.add_argument("--lasting", action="store_true", help="the call and all later ones of its name fail")


def run(args: argparse.Namespace) -> Tally:
    """Let every chosen call fail with every chosen error."""
    wanted = syscalls.chosen(args.operations)
    return syscalls.campaign(args, wanted, _failing_everywhere)


def _failing_everywhere(place: Workplace, scene: Scene, args: argparse.Namespace, board: Board) -> None:
    start = time.monotonic()
    _, seen = scenes.scene_calls(place, scene)
    generator = random.Random(f"{args.seed} {scene.operation}")
    ways: Counter[str] = Counter()
    findings: list[Finding] = []
    pairs = 0
    for call in syscalls.aims(seen, args):
        errors = list(args.errors)
        if scene.operation in _SAMPLED:
            errors = generator.sample(errors, min(len(errors), _SAMPLED[scene.operation]))
        for error in errors:
            pairs += 1
            what = f"error={error}"
            options = tracing.lasting(seen, call, what) if args.lasting else call.injection(what)
            way, found = _failed(place, scene, call, error, options)
            ways[way] += 1
            findings += [Finding(f"{call} {error}", text) for text in found]
    counts = Counter({"operations": 1, "calls seen": len(seen), "calls x errors": pairs}) + ways
    shown = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    spent = time.monotonic() - start
    line = f"{scene.operation:<11} {len(seen)} calls, {pairs} errors in {spent:.0f} s: {shown}"
    board.add(counts, scenes.grouped(scene.operation, findings, place), line)


def _failed(
    place: Workplace, scene: Scene, call: Call, error: str, options: Sequence[str]
) -> tuple[str, list[str]]:
    """Let *call* of *scene* fail; return what came of it, and what must not have."""
    place.state(scene.state)
    played = place.traced(scene.operation, options, threads=scene.threads)
    problems = list(_of_the_end(played, error, scene))
    problems += ordering.violations(played.trace, ended=False)
    problems += scenes.recover(place, scene, played)
    if not tracing.failed_in(played.trace, call):
        return "not hit", problems
    return _CODES.get(played.code if played.code is not None else -1, "PROBLEM"), problems


def _of_the_end(played: Played, error: str, scene: Scene) -> Iterator[str]:
    """Yield what is wrong with the way an operation ended."""
    words = played.words.strip()
    if played.code is None:
        yield "it hung"
    elif played.code not in _CODES or "Traceback" in words:
        yield f"it ended with {played.code}: {words}"
    elif played.code and not words:
        yield f"it ended with {played.code} without a word"
    elif played.code in (2, 4) and error not in _FOR_THE_USER:
        yield f"it ended with {played.code}, though the same command may succeed later: {words}"
    if (
        scene.operation == "restore"
        and played.facts.get("restored") == [0]
        and not played.facts["skipped"][0]
    ):
        yield "no checkpoint was restored, and nothing says why"
