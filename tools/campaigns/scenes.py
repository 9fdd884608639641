"""Which operations are broken, in which state of a run, and what must hold afterwards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.campaigns import tracing
from tools.campaigns.tracing import Call
from tools.campaigns.workplace import Played, Workplace

#: As the program of the search and `end_of` give them: number -> state, value, parameters.
RESULTS: Final[dict[str, list[Any]]] = {
    str(3 * fold + x - 1): ["done", float(f"0.{x}{fold}"), {"x": x}] for fold in (0, 1) for x in (1, 2, 3)
}


#: Begins the finding that two workers made the same attempt.
TWICE: Final = "claimed by two workers"
#: Calls that are listed for problems of one kind.
_LISTED: Final = 6


@dataclass(frozen=True, slots=True)
class Scene:
    """*operation* on a run in *state*; ``recovery`` are the operations that put things right afterwards."""

    operation: str
    state: str
    recovery: tuple[str, ...] = ("settle-quickly",)
    threads: bool = False

    def below(self, place: Workplace) -> Path:
        """Return where its system calls matter."""
        return place.site if self.operation == "plan" else place.run


SCENES: Final = (
    Scene("plan", "empty", ("plan", "settle")),
    Scene("join", "planned"),
    Scene("claim", "planned"),
    Scene("finish", "planned"),
    Scene("give-back", "planned"),
    Scene("beat", "planned"),
    Scene("recover", "dead"),
    Scene("reconcile", "unindexed"),
    Scene("exit", "planned"),
    Scene("archive", "gone"),
    Scene("samples", "planned"),
    Scene("checkpoint", "dead", threads=True),
    Scene("restore", "dead", threads=True),
    Scene("remove", "dead"),
    Scene("collect", "half"),
    Scene("cancel", "half"),
    Scene("work", "gone", ("settle",)),
    Scene("submit", "gone", ("submit-wait", "settle")),
)


def scene_calls(place: Workplace, scene: Scene) -> tuple[Played, list[Call]]:
    """Play *scene* undisturbed; return it and its system calls, in order."""
    place.state(scene.state)
    played = place.traced(scene.operation, threads=scene.threads)
    return played, tracing.calls(played.trace, scene.below(place))


def recover(place: Workplace, scene: Scene, broken: Played) -> Iterator[str]:
    """Put the run right after *broken*; yield what must not have happened."""
    left = files(place.run) if scene.operation == "plan" and place.run.exists() else frozenset[str]()
    for operation in scene.recovery:
        played = place.play(operation, seed=f"recovery by {operation}")
        if played.code != 0:
            yield f"the recovery by {operation} ended with {played.code}: {played.words.strip()}"
            return
        if "settle" in operation:
            yield from settled(played)
            yield from kept(broken, played)
    yield from _repaired(place)
    if left and left != files(place.state_of("planned")):
        yield f"plan left a part of a run: {sorted(left)}"


def _repaired(place: Workplace) -> Iterator[str]:
    """Let fsck remove what is left under temporary names; yield what stays."""
    inside = [name for name in place.leftovers() if name.startswith(place.run.name)]
    if not inside:
        return
    place.let_leftovers_age()
    played = place.play("repair")
    if played.code != 0:
        yield f"fsck --repair ended with {played.code}: {played.words.strip()}"
    if place.leftovers() and any(name.startswith(place.run.name) for name in place.leftovers()):
        yield f"fsck --repair leaves {place.leftovers()}"


class Finding(NamedTuple):
    """What must not have happened, and at which broken call."""

    where: str
    text: str


def grouped(operation: str, findings: Sequence[Finding], place: Workplace) -> list[str]:
    """Return one problem for all findings that say the same but for paths and random names."""
    groups: dict[str, list[str]] = {}
    for where, text in findings:
        groups.setdefault(_plain(text, place), []).append(_plain(where, place))
    return [
        f"{operation}, {len(places)} times: {text}\n    at {'; '.join(places[:_LISTED])}"
        + (" ..." if len(places) > _LISTED else "")
        for text, places in groups.items()
    ]


def _plain(text: str, place: Workplace) -> str:
    text = re.sub(
        r"Traceback \(most.*(File \"[^\n]*/hpc_search/[^\n]*)\n.*\n(\S[^\n]*)",
        r"\1: \2",
        text,
        flags=re.DOTALL,
    )
    # Times, addresses and offsets in the words of libraries differ from call to call.
    text = re.sub(r"time = [^\n]*\n|0x[0-9a-f]+|(size|bytes|offset|descriptor)[^,)]* = \d+", "", text)
    return tracing.plain(text.replace(str(place.run), "RUN").replace(str(place.root), ""))


def files(root: Path) -> frozenset[str]:
    """Return the relative paths of everything below *root*."""
    return frozenset(str(path.relative_to(root)) for path in root.rglob("*"))


def settled(played: Played) -> Iterator[str]:
    """Yield what is wrong with a run that was worked to its end."""
    facts = played.facts
    found = facts["results"][-1]
    if facts["codes"] != [[0, 0, 0]]:
        yield f"work, collect, collect ended with {facts['codes']}: {played.words.strip()}"
    results = {number: result[:3] for number, result in found.items()}
    if results != RESULTS:
        wrong = {number: results.get(number) for number in RESULTS if results.get(number) != RESULTS[number]}
        yield f"lost or changed results: {wrong or results.keys() - RESULTS.keys()}"
    for number, checksum in facts["ends"][0].items():
        if number in found and found[number][3] != checksum:
            yield f"trial {number} had a durable end and was run again"
    if facts["index"][-1] != {"finals": len(RESULTS), "states": ["done"] * len(RESULTS)}:
        yield f"the index says {facts['index'][-1]}"
    twice = [claim for claim, count in Counter(map(tuple, _pairs(facts["claims"][-1]))).items() if count > 1]
    if twice:
        yield f"{TWICE}: (trial, attempt) {twice}"
    newest = facts["newest"][0]
    if newest["skipped"] or not newest["same"]:
        yield f"a checkpoint that is not whole has its name: {newest}"


def _pairs(claims: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    return [claim[:2] for claim in claims]


def kept(broken: Played, settle: Played) -> Iterator[str]:
    """Yield what *broken* had acknowledged and the run, when it was put right, does not have."""
    found = settle.facts["results"][-1]
    for number, checksum in zip(broken.facts.get("finished", ()), broken.facts.get("end", ()), strict=False):
        if found.get(str(number), [None] * 4)[3] != checksum:
            yield f"the acknowledged end of trial {number} is not its result"
    acknowledged = max([*broken.facts.get("restored", ()), *broken.facts.get("saved", ())], default=0)
    step = settle.facts["newest"][0]["step"]
    if step < acknowledged:
        yield f"step {acknowledged} was saved, the newest checkpoint has {step}"
