"""The measurements that need several partners, as asked of them one after the other or at once."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from hpc_search.doctor import names
from hpc_search.doctor.crew import Client, SilentError, gather, result, together
from hpc_search.doctor.locking import TURN_S
from hpc_search.doctor.measured import (
    Attempt,
    Content,
    Count,
    Delays,
    Lock,
    Locking,
    Race,
    Replaced,
    add_up,
    errno_name,
    tally,
)

_ROUNDS: Final = 25
#: Rounds in which the content is read whatever it costs.
_READ_ROUNDS: Final = 2
#: Seconds that the rounds of one race may take altogether.
_RACE_S: Final = 0.6
#: Seconds that a name may take until all read its content.
_READ_S: Final = 2.0
_REPLACE_S: Final = 0.25
#: Seconds within which a lock that was given back must be had.
_HANDOVER_S: Final = 2.0
_HANDOVERS: Final = 12
#: Seconds after which no more are made than one for each partner.
_HANDOVERS_S: Final = 4.0
_TURNS: Final = 25
_TURNS_S: Final = 0.8
#: Seconds that are waited until the other side sees what was done.
DELAY_S: Final = 10.0


def race(clients: Sequence[Client], kind: str, scope: str) -> Race:
    """Let all *clients* race for names, made in way *kind*."""
    found = Race(kind=kind, scope=scope, racers=len(clients))
    left = _RACE_S
    for number in range(_ROUNDS):
        # What is read late anyway needs no more rounds to show it.
        read = number < _READ_ROUNDS or found.slowest_read < _READ_S / 20
        started = time.monotonic()
        one = _round(clients, kind, scope, f"{scope}-{kind}-{number}", read=read)
        left -= time.monotonic() - started - one.slowest_read
        found = found.plus(one)
        if found.silent or found.errors or left < 0:
            break
    return found


def _round(clients: Sequence[Client], kind: str, scope: str, name: str, *, read: bool) -> Race:
    readied = together(clients, object, "ready", kind=kind, name=name)
    tried = [] if _silent(readied) else together(clients, Attempt, "race", kind=kind, name=name)
    attempts = [
        (client, one) for client, one in zip(clients, tried, strict=False) if isinstance(one, Attempt)
    ]
    winners = [(client, one) for client, one in attempts if one.won]
    errors = add_up(_errors(readied), _errors(tried), tally(one.errno for _, one in attempts))
    unreadable, slowest, silent = 0, 0.0, _silent(readied) or _silent(tried)
    if len(winners) == 1 and read:
        mark = "" if kind == "mkdir" else names.mark(winners[0][0].rank, name)
        answers = together(clients, Content, "read", seconds=_READ_S, kind=kind, name=name, mark=mark)
        contents = [one for one in answers if isinstance(one, Content)]
        unreadable = sum(one.mark != mark for one in contents)
        slowest = max((one.seconds for one in contents), default=0.0)
        silent = silent or _silent(answers)
    return Race(
        kind=kind,
        scope=scope,
        racers=len(clients),
        rounds=1,
        doubles=len(winners) > 1,
        unwon=not winners and not errors and not silent,
        unreadable=unreadable > 0,
        fake=sum(one.fake for _, one in winners),
        slowest_read=slowest,
        errors=errors,
        silent=silent,
    )


def _silent(found: Iterable[object]) -> bool:
    return any(isinstance(one, SilentError) for one in found)


def _errors(found: Iterable[object]) -> dict[str, int]:
    return tally(one.errno for one in found if isinstance(one, OSError))


def replaced(clients: Sequence[Client], scope: str) -> Replaced:
    """Let the others read while the first one renames over a name."""
    name = f"{scope}-replaced"
    writer, readers = clients[0], clients[1:]
    laid = together([writer], Replaced, "rewrite", name=name)
    if not isinstance(laid[0], Replaced):
        return Replaced(scope=scope, silent=_silent(laid), errors=_errors(laid))
    asked = [(reader, reader.send("reread", seconds=_REPLACE_S, name=name)) for reader in readers]
    asked += [(writer, writer.send("rewrite", seconds=_REPLACE_S, name=name, count=1))]
    answers = gather(Replaced, asked, _REPLACE_S)
    good = [one for one in answers if isinstance(one, Replaced)]
    return Replaced(
        scope=scope,
        writes=sum(one.writes for one in good),
        reads=sum(one.reads for one in good),
        missing=sum(one.missing for one in good),
        torn=sum(one.torn for one in good),
        stale_handles=sum(one.stale_handles for one in good),
        errors=add_up(_errors(answers), *(one.errors for one in good)),
        silent=_silent(answers),
    )


def locking(clients: Sequence[Client], kind: str, scope: str) -> Locking:
    """Try one kind of lock between *clients*, of which the first and the last are on different sides."""
    name = f"{scope}-{kind}"
    try:
        found = _exclusion(clients[0], clients[-1], kind, name, scope)
        if found.excludes and found.handed_over:
            return _turns(clients, kind, name, found)
    except SilentError:
        return Locking(kind=kind, scope=scope, silent=True)
    except OSError as error:
        # What the lock call itself refuses comes as an answer: this says nothing of the lock.
        return Locking(kind=kind, scope=scope, prevented=errno_name(error.errno))
    return found


def _exclusion(one: Client, other: Client, kind: str, name: str, scope: str) -> Locking:
    excludes = handed_over = True
    for holder, second in ((one, other), (other, one)):
        held = holder.ask(Lock, "take", seconds=_HANDOVER_S, kind=kind, name=name)
        refused = second.ask(Lock, "take", kind=kind, name=name)
        if held.errno or refused.errno:
            return Locking(kind=kind, scope=scope, errors=tally([held.errno, refused.errno]))
        dropped = [holder.ask(Lock, "drop", kind=kind, name=name)]
        later = second.ask(Lock, "take", seconds=_HANDOVER_S, kind=kind, name=name)
        if later.taken:
            dropped.append(second.ask(Lock, "drop", kind=kind, name=name))
        errors = tally([later.errno, *(one.errno for one in dropped)])
        if errors:
            return Locking(kind=kind, scope=scope, errors=errors)
        excludes = excludes and held.taken and not refused.taken
        handed_over = handed_over and held.taken and later.taken
    return Locking(kind=kind, scope=scope, excludes=excludes, handed_over=handed_over)


def _turns(clients: Sequence[Client], kind: str, name: str, found: Locking) -> Locking:
    """Write and read under the lock, first in turn, then all at once."""
    records = max(client.rank for client in clients) + 1
    _lay(clients[0], name, records)
    old, expected, waits, until = 0, 0, [0.0], time.monotonic() + _HANDOVERS_S
    for turn in range(_HANDOVERS):
        if turn >= len(clients) and time.monotonic() > until:
            break
        client = clients[turn % len(clients)]
        count = client.ask(Count, "turns", seconds=TURN_S, kind=kind, name=name, count=1)
        waits.append(count.longest_wait)
        if count.errors or not count.turns:
            return msgspec.structs.replace(
                found, errors=count.errors, handed_over=bool(count.errors), longest_wait=max(waits)
            )
        old, expected = old + (count.value != expected), count.value + 1
    together_counted = _raced(clients, kind, f"{name}-raced", records)
    longest = max(*waits, together_counted.longest_wait)
    return msgspec.structs.replace(
        together_counted,
        scope=found.scope,
        excludes=True,
        handovers=len(waits) - 1,
        old=old,
        longest_wait=longest,
    )


def _lay(client: Client, name: str, records: int) -> None:
    try:
        client.ask(object, "lay", name=name, count=records)
    except SilentError:
        # No lock is taken by it: its silence says nothing of locks.
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None


def _raced(clients: Sequence[Client], kind: str, name: str, records: int) -> Locking:
    """Let all raise one counter at once; compare it with what they say they did."""
    _lay(clients[0], name, records)
    asked = together(clients, Count, "turns", seconds=_TURNS_S, kind=kind, name=name, count=_TURNS)
    counts = [result(one) for one in asked]
    totals = [
        client.ask(list[int], "total", seconds=TURN_S, kind=kind, name=name, count=records)
        for client in (clients[0], clients[-1])
    ]
    # What one of the two sides reads is there.
    seen = [max(both) for both in zip(*totals, strict=True)]
    return Locking(
        kind=kind,
        scope="",
        errors=add_up(*(one.errors for one in counts)),
        expected=sum(one.turns for one in counts),
        counted=seen[0],
        lost=sum(seen[client.rank + 1] != one.turns for client, one in zip(clients, counts, strict=True)),
        longest_wait=max(one.longest_wait for one in counts),
    )


def delays(one: Client, other: Client, scope: str) -> Delays:
    """Measure both ways how late one side sees what the other one did."""
    ways = ((one, other, "delays-0"), (other, one, "delays-1"))
    try:
        for doer, watcher, name in ways:
            doer.ask(object, "delays_lay", name=name)
            watcher.ask(object, "delays_warm", seconds=_READ_S, name=name)
        for doer, _, name in ways:
            doer.ask(object, "delays_act", name=name)
        asked = [
            (watcher, watcher.send("delays_watch", seconds=DELAY_S, name=name)) for _, watcher, name in ways
        ]
        found = [result(answer) for answer in gather(Delays, asked, DELAY_S)]
    except SilentError:
        return Delays(scope=scope, limit=DELAY_S, silent=True)
    except OSError as error:
        return Delays(scope=scope, limit=DELAY_S, errors=tally([error.errno]))
    return Delays(scope=scope, seconds=_longest(found), limit=DELAY_S)


def _longest(found: Sequence[Delays]) -> dict[str, float | None]:
    merged: dict[str, float | None] = {}
    for deed in found[0].seconds:
        times = [one.seconds.get(deed) for one in found]
        merged[deed] = None if None in times else max(time or 0.0 for time in times)
    return merged
