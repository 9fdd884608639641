"""Two workers at once: one is held after every file-system call of an operation while another one claims.

Nobody is declared gone and no lock lies: no trial may be claimed twice under one attempt number.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections import Counter
from typing import Final

from tools.campaigns import scenes, syscalls
from tools.campaigns.common import Tally
from tools.campaigns.scenes import Finding, Scene
from tools.campaigns.syscalls import Board
from tools.campaigns.tracing import Call
from tools.campaigns.workplace import Workplace, wait_for_stop

HELP: Final = "a worker held after every file-system call of claim and finish while another one claims"
#: What is held; the other one always claims.
OPERATIONS: Final = ("join", "claim", "finish", "give-back", "recover", "reconcile", "exit")
#: Seconds that the first worker is held where the second one has to wait for it.
_HELD: Final = 0.2


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    syscalls.add_choice(parser)


def run(args: argparse.Namespace) -> Tally:
    """Hold every chosen operation after every chosen call."""
    wanted = [scene for scene in syscalls.chosen(args.operations) if scene.operation in OPERATIONS]
    return syscalls.campaign(args, wanted, _held_everywhere)


def _held_everywhere(place: Workplace, scene: Scene, args: argparse.Namespace, board: Board) -> None:
    start = time.monotonic()
    _, seen = scenes.scene_calls(place, scene)
    aimed = syscalls.aims(seen, args)
    counts: Counter[str] = Counter({"operations": 1, "calls seen": len(seen), "calls aimed at": len(aimed)})
    findings: list[Finding] = []
    for call in aimed:
        held, found = _held(place, scene, call)
        counts["held"] += held
        findings += [Finding(f"held after {call}", text) for text in found]
    line = f"{scene.operation:<11} seen {len(seen)}, held {counts['held']} of {len(aimed)}"
    problems = scenes.grouped(scene.operation, findings, place)
    board.add(counts, problems, f"{line} in {time.monotonic() - start:.0f} s")


def _held(place: Workplace, scene: Scene, call: Call) -> tuple[bool, list[str]]:
    place.state(scene.state)
    pid, tracer = place.begin(scene.operation, call.injection("signal=STOP"))
    held = wait_for_stop(tracer, pid)
    name = "claim" if scene.operation != "claim" else "claim-too"
    other = place.start(name, "the other")
    ended = place.ended_within(other, _HELD)
    if held:
        os.kill(pid, signal.SIGCONT)
    found = [place.finish(scene.operation, pid, tracer), place.finish(name, other, None, ended=ended)]
    problems = [f"it ended with {one.code}: {one.words.strip()}" for one in found if one.code]
    after = place.play("settle-quickly", "afterwards")
    if after.code != 0:
        return held, [*problems, f"work and collect ended with {after.code}: {after.words.strip()}"]
    problems += scenes.settled(after)
    for one in found:
        problems += scenes.kept(one, after)
    return held, problems
