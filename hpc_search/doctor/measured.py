"""What was measured on a directory: facts, not yet judged. Also what partners answer, as JSON."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

import msgspec

from hpc_search.durable import NO_SPACE

#: Where the partners of a measurement ran.
PROCESSES: Final = "processes"
MOUNTS: Final = "mounts"
NODES: Final = "nodes"
#: Kinds of mounts that `hpc_search.mounts` trusts and that are not of one machine.
_SHARED: Final = frozenset({"ceph", "gpfs", "lustre"})


class Partner(msgspec.Struct, frozen=True):
    """A process that takes part: its node, its process id, the directory as it sees it."""

    node: str
    pid: int
    directory: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The directory itself. ``errno`` is 0 where a directory could be made in it.

    ``sync_errno`` is 0 where it could be opened and fsynced itself. What is not UTF-8 is shown escaped.
    """

    path: str
    real: str
    kind: str
    errno: int = 0
    mode: int = 0
    owner: int = 0
    user: int = 0
    umask: int | None = None
    open_parents: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    is_run: bool = False
    fstype: str = ""
    options: tuple[str, ...] = ()
    mounted_at: str = ""
    source: str = ""
    known_good: bool = False
    sync_errno: int = 0
    #: Bytes and inodes that the user may still take; None where the file system does not count inodes.
    free: int = 0
    inodes: int | None = None

    @property
    def local(self) -> bool:
        """Whether the file system is of one machine, as far as its kind tells."""
        return self.known_good and self.fstype not in _SHARED

    @property
    def sync_error(self) -> str:
        """The name of ``sync_errno``, "" where there is none."""
        return errno_name(self.sync_errno) if self.sync_errno else ""


class Attempt(msgspec.Struct, frozen=True):
    """One try of one racer: whether it won; else why not (``errno``); ``fake``: no real hard link."""

    won: bool
    errno: int = 0
    fake: bool = False


class Content(msgspec.Struct, frozen=True):
    """What a name holds as one racer sees it, and the seconds until it could be read."""

    mark: str | None
    seconds: float


class Race(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds of racers for a name: how many had two winners, none, or a loser that read wrong content."""

    kind: str
    scope: str
    racers: int
    rounds: int = 0
    doubles: int = 0
    unwon: int = 0
    unreadable: int = 0
    fake: int = 0
    slowest_read: float = 0.0
    errors: dict[str, int] = {}
    silent: bool = False

    def plus(self, other: Race) -> Race:
        """Return both together."""
        return Race(
            kind=self.kind,
            scope=self.scope,
            racers=self.racers,
            rounds=self.rounds + other.rounds,
            doubles=self.doubles + other.doubles,
            unwon=self.unwon + other.unwon,
            unreadable=self.unreadable + other.unreadable,
            fake=self.fake + other.fake,
            slowest_read=max(self.slowest_read, other.slowest_read),
            errors=add_up(self.errors, other.errors),
            silent=self.silent or other.silent,
        )

    @property
    def good(self) -> bool:
        """Whether every round had one winner, whose content everybody read."""
        wrong = self.doubles + self.unwon + self.unreadable + self.fake + len(self.errors)
        return self.rounds > 0 and not wrong and not self.silent


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A reader beside a writer that renames over a name."""

    scope: str = ""
    writes: int = 0
    reads: int = 0
    missing: int = 0
    torn: int = 0
    stale_handles: int = 0
    errors: dict[str, int] = {}
    silent: bool = False


class Lock(msgspec.Struct, frozen=True):
    """One try to take a lock: taken, or the errno; seconds that it took."""

    taken: bool
    errno: int = 0
    seconds: float = 0.0


class Count(msgspec.Struct, frozen=True):
    """Turns of one process: how many it made, the errnos, the longest wait, what it read last or wrote."""

    turns: int = 0
    value: int = 0
    longest_wait: float = 0.0
    errors: dict[str, int] = {}


class Locking(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of lock between some processes.

    ``errors`` are those of the lock call alone; ``prevented`` is the errno of another call, without which
    nothing is known of the lock.
    ``old`` of ``handovers`` reads under the lock did not see what was written under the lock before;
    racing for ``expected`` turns they counted ``counted``, and ``lost`` records of single writers were lost.
    """

    kind: str
    scope: str
    errors: dict[str, int] = {}
    prevented: str = ""
    excludes: bool | None = None
    handed_over: bool = True
    handovers: int = 0
    old: int = 0
    expected: int = 0
    counted: int = 0
    lost: int = 0
    longest_wait: float = 0.0
    silent: bool = False

    @property
    def visible(self) -> bool:
        """Whether everything written under the lock was seen under the lock."""
        return not self.old and self.counted == self.expected and not self.lost

    @property
    def good(self) -> bool:
        """Whether the lock excludes and what it protects is seen."""
        tried = not self.errors and not self.prevented and not self.silent
        works = tried and self.excludes is True and self.handed_over
        return works and self.handovers > 0 and self.expected > 0 and self.visible


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """Median seconds of fsync, of a file of 4 KiB and of its directory; errnos by what failed.

    ``directory`` is None where the file system does not know fsync of a directory.
    """

    file: float = 0.0
    directory: float | None = 0.0
    errors: dict[str, str] = {}


class Clock(msgspec.Struct, frozen=True):
    """Seconds: the smallest step of mtime seen, and mtime minus this machine's clock."""

    granularity: float
    skew: float


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What came of writing *bytes* and making *files*: errno names, "" where it worked."""

    bytes: int
    files: int
    write_error: str = ""
    file_error: str = ""


class Quota(msgspec.Struct, frozen=True):
    """What the `quota` command said; ``asked`` is False where there is none."""

    asked: bool
    over: tuple[str, ...] = ()
    words: str = ""


class Hdf5(msgspec.Struct, frozen=True):
    """Why opening an HDF5 file failed, with HDF5's own locking and with locking=False; "" where it worked."""

    default: str
    unlocked: str
    version: str = ""


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds until one side saw what the other one did; None: not within *limit*."""

    scope: str = ""
    seconds: dict[str, float | None] = {}
    limit: float = 0.0
    errors: dict[str, int] = {}
    silent: bool = False

    @property
    def longest(self) -> float:
        """The longest delay; the limit where something was not seen at all."""
        return max((self.limit if one is None else one for one in self.seconds.values()), default=0.0)


class RunLock(msgspec.Struct, frozen=True):
    """The lock of a run's index: free within the time given, or the errno, and who holds it here."""

    exists: bool
    free: bool
    errno: int = 0
    seconds: float = 0.0
    holders: tuple[int, ...] = ()


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured. None: it could not be; ``untried`` says why, by scope or measurement."""

    place: Place
    room: Room | None = None
    quota: Quota | None = None
    races: tuple[Race, ...] = ()
    replaced: tuple[Replaced, ...] = ()
    locking: tuple[Locking, ...] = ()
    synced: Synced | None = None
    clock: Clock | None = None
    delays: tuple[Delays, ...] = ()
    hdf5: Hdf5 | None = None
    run_lock: RunLock | None = None
    nodes: tuple[str, ...] = ()
    #: Whether a node that was asked does not see the directory.
    hidden: bool = False
    untried: dict[str, str] = {}
    #: The errnos by which room was missing for what is in ``untried``.
    no_room: dict[str, str] = {}
    #: The temporary directory, where it could not be removed.
    left: str = ""


def errno_name(number: int | None) -> str:
    """Return the name of an errno, such as ENOLCK; 524 is the kernel's own ENOTSUPP, which NFS shows."""
    if number == 524:
        return "ENOTSUPP"
    return errno.errorcode.get(number or 0, f"errno {number}")


#: What says that there is no room, as `errno_name` writes it.
_NO_ROOM: Final = frozenset(map(errno_name, NO_SPACE))


def no_room(errors: Iterable[str]) -> str:
    """Return the first of *errors* that says that there is no room, "" where none does."""
    return next((name for name in errors if name in _NO_ROOM), "")


def tally(numbers: Iterable[int | None]) -> dict[str, int]:
    """Return how often each errno occurred, by name."""
    found: dict[str, int] = {}
    for number in numbers:
        if number:
            found[errno_name(number)] = found.get(errno_name(number), 0) + 1
    return found


def add_up(*tallies: dict[str, int]) -> dict[str, int]:
    """Return the sum of *tallies*."""
    found: dict[str, int] = {}
    for one in tallies:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return found
