"""The submissions of a run: what was about to be sent, and what the scheduler answered.

ledger/submits/NNNN.intent.json is published before anything is sent, NNNN.jobs.json after the answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from hpc_search.config.profile import Profile
from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.records import checked
from hpc_search.records.search import Struct

FORMAT: Final = "hpc_search.submission"
VERSION: Final = 1
_UNREADABLE: Final = "see what is live (`squeue --me`, `ps`), then `fsck RUN --repair` and submit again"
_NAME: Final = re.compile(r"(\d{4,})\.(intent|jobs)\.json")


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the launcher started: an array with its id, or a process with its pid. Never an identity."""

    id: str
    tasks: int = 1
    seat: str = ""
    host: str = ""
    boot_id: str = ""
    start_time: int = 0


class Kind(NamedTuple):
    """Workers by the launcher, profile and folds that they are of."""

    launcher: str
    profile: str
    folds: tuple[int, ...] = ()


class Intent(Struct, frozen=True, kw_only=True):
    """NNNN.intent.json: what is about to be sent, by whom. ``created`` is for people only.

    ``gone`` are workers that own trials, of jobs that the scheduler, healthy, no longer knows: they are dead.
    """

    format: str = FORMAT
    version: int = VERSION
    number: int
    token: str
    launcher: str
    tasks: int
    first_seat: int = 0
    host: str = ""
    created: float = 0.0
    gone: tuple[str, ...] = ()
    #: What the tasks get, and how many workers of this profile shall be live in all.
    profile: Profile = Profile()
    wanted: int = 0
    #: Most tasks of one array, and of this user in all (0: not known), when this was sent.
    array: int = 0
    most: int = 0
    #: The walltime asked for, in minutes; 0 leaves it to the partition.
    minutes: int = 0
    minutes_min: int = 0
    #: Tokens that the scheduler no longer knew, and waiting tasks that were cancelled, before this.
    over: tuple[str, ...] = ()
    taken_back: int = 0
    #: How many submissions by workers led to this one, since a person's.
    depth: int = 0
    #: Folds whose trials alone its workers claim, () for all.
    folds: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """What its workers are: those of one kind are counted together."""
        return Kind(self.launcher, self.profile.name, self.folds)


class Answer(Intent, frozen=True, kw_only=True):
    """NNNN.jobs.json: the intent again, what became of it, and the words of a refusal.

    With ``set`` nothing was to be sent: from now on this profile and this ``wanted`` hold.
    """

    outcome: Literal["sent", "adopted", "refused", "not sent", "set"]
    jobs: tuple[Job, ...] = ()
    words: str = ""


def submissions(layout: Layout) -> list[Intent]:
    """Return all submissions by number; an `Answer` where there is one, else the `Intent`.

    Raises:
        DamagedError: A file does not hold a submission of a known version.
    """
    found: dict[int, Intent] = {}
    names = sorted(os.listdir(layout.submits)) if layout.submits.is_dir() else []
    # "intent" sorts before "jobs", so an answer takes the place of its intent.
    for match in filter(None, map(_NAME.fullmatch, names)):
        kind: type[Intent] = Intent if match[2] == "intent" else Answer
        found[int(match[1])] = _read(layout.submits / match[0], kind)
    return [found[number] for number in sorted(found)]


def marked(known: Iterable[Intent], mark: str) -> list[Intent]:
    """Return those of *known* whose tokens have *mark* (""; all): a copy of a run has one of its own."""
    return [one for one in known if not mark or one.token.rpartition("-")[0].endswith(f"-{mark}")]


def last_of(known: Iterable[Intent], kind: Kind) -> Intent | None:
    """Return the last submission of *kind* that the scheduler did not refuse."""
    mine = [
        one
        for one in known
        if one.kind == kind and not (isinstance(one, Answer) and one.outcome == "refused")
    ]
    return mine[-1] if mine else None


def _read(path: Path, kind: type[Intent]) -> Intent:
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data, type=_Head)
        if head.format == FORMAT and head.version == VERSION:
            return checked.decode(data, kind, str(path), _UNREADABLE)
        found = f"format {head.format!r} version {head.version}; this hpc_search reads version {VERSION}"
    except msgspec.DecodeError as error:
        found = str(error)
    message = f"{path} is no record of a submission: {found}"
    raise DamagedError(message, hint=_UNREADABLE)


class _Head(Struct, frozen=True, kw_only=True):
    format: str
    version: int


def of_token(layout: Layout, token: str) -> Intent | None:
    """Return the submission with this *token*, None where there is none that can be read."""
    number = token.rpartition("-")[2]
    if not number.isdecimal():
        return None
    for path, kind in (
        (layout.submit_record(int(number)), Answer),
        (layout.submit_intent(int(number)), Intent),
    ):
        try:
            found = _read(path, kind)
        except (OSError, DamagedError):
            continue
        if found.token == token:
            return found
    return None
