"""The ledger against the journals: the index, the seals, and the results that one of them names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hpc_search.fsck.findings import Case, Finding, Remedy, note
from hpc_search.fsck.journals import Facts
from hpc_search.records import index as codec
from hpc_search.records.index import Entry, Header

_INDEX: Final = "ledger/claims.bin"
_HOLDS: Final = "who may claim what; the journals are the truth"
#: Numbers named in one message.
_NAMED: Final = 8


class Named(NamedTuple):
    """An end record that something names as the result of a trial: who wrote it, and where it is named."""

    checksum: str
    worker: str
    by: str


@dataclass(slots=True)
class Lost:
    """Results that are named and that no journal holds.

    ``runnable`` become runnable again; ``kept`` were published or, where the index is not used, accepted by
    name: they are shown as final, with the entries that the index has for them.
    """

    cases: list[Case] = field(default_factory=list)
    runnable: list[int] = field(default_factory=list)
    kept: dict[int, str] = field(default_factory=dict)


class Index(NamedTuple):
    """The index as it reads: None for the header, or for an entry, where it does not verify."""

    header: Header | None
    entries: list[Entry | None]
    cases: list[Case]


def read_index(data: bytes | None, trials: int, before: Sequence[int] = ()) -> Index:
    """Return the index in *data* (None where the file is missing) of a plan with *trials* trials.

    *before* an amendment it had fewer; the next worker adds the records of the others, which nobody touched.
    """
    if data is None:
        return Index(None, [], [_rebuild("it is missing")])
    header = codec.parse_header(data)
    if header is not None and header.trials in before:
        data += bytes(max(0, codec.index_bytes(trials) - len(data)))
        header = header._replace(trials=trials)
    size = codec.index_bytes(trials)
    whole = data[codec.HEADER_BYTES : size]
    entries = codec.parse_entries(whole[: len(whole) - len(whole) % codec.RECORD_BYTES])
    cases = []
    if header is None:
        cases.append(_rebuild("its header does not verify"))
    elif header.trials != trials:
        cases.append(_rebuild(f"it is for {header.trials} trials, the plan has {trials}"))
    if len(data) != size:
        cases.append(_rebuild(f"it has {len(data)} bytes, expected {size}"))
    bad = [number for number, entry in enumerate(entries) if entry is None]
    if bad:
        cases.append(_rebuild(f"the records of {named(bad)} do not verify", tuple(bad)))
    unknown = [number for number, entry in enumerate(entries) if entry and entry.state > codec.PRUNED]
    if unknown:
        cases.append(_rebuild(f"the records of {named(unknown)} have an unknown state", tuple(unknown)))
    return Index(header, entries, cases)


def named(numbers: list[int]) -> str:
    """Return "trial 3" or "trials 3, 4, ..."."""
    text = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"trial{'s' if len(numbers) > 1 else ''} {text}{more}"


def _rebuild(what: str, trials: tuple[int, ...] = ()) -> Case:
    return Case(Finding(path=_INDEX, what=what, held=_HOLDS, trials=trials), "rebuild")


def compare(index: Index, facts: Facts, sealed: Mapping[int, str], now: Index) -> Iterator[Case]:
    """Yield where the index says something else than the journals: its entries, and its header's count.

    *index* was read before the journals, *now* after them.
    """
    finals = sum(entry is not None and entry.final for entry in index.entries)
    if index.header is not None and not index.cases and index.header.finals != finals:
        counted = f"its header counts {index.header.finals} final trials, there are {finals}"
        yield note(_INDEX, f"{counted}: the next worker counts again")
    unmarked, behind, wrong = [], [], []
    for number, entry in enumerate(index.entries):
        ends = facts.finals(number)
        if entry is None or not (ends or entry.attempt or facts.claims.get(number)):
            continue
        end = ends.get(f"{entry.end:016x}")
        if not entry.final and (number in sealed or ends):
            unmarked.append(number)
        elif not entry.final and _attempt(now, number, entry) < facts.claims.get(number, 0):
            behind.append(number)
        elif end is not None and not _agrees(entry, end[0].state, end[0].value, end[1]):
            wrong.append(number)
    stale = [
        number
        for number, entry in enumerate(index.entries)
        if entry is not None and entry.final and facts.taken_back(number, f"{entry.end:016x}")
    ]
    if stale:
        yield note(
            _INDEX, f"the failures of {named(stale)} were taken back: the next worker opens them again"
        )
    if unmarked:
        yield note(_INDEX, f"{named(unmarked)} ended and are not marked yet: the next worker does that")
    if behind:
        yield _rebuild(f"{named(behind)} stand at an earlier attempt than the journals have", tuple(behind))
    if wrong:
        yield _rebuild(f"{named(wrong)} have another result than their end records", tuple(wrong))


def _attempt(now: Index, number: int, before: Entry) -> int:
    entry = now.entries[number] if number < len(now.entries) else None
    return max(before.attempt, entry.attempt if entry is not None else 0)


def _agrees(entry: Entry, state: str, value: float | None, worker: str) -> bool:
    same = entry.value == (value or 0.0) or (entry.value != entry.value and value != value)  # noqa: PLR0124
    return codec.STATES[entry.state] == state and same and f"{entry.owner:016x}" == worker


def names_of_results(
    index: Index, facts: Facts, sealed: Mapping[int, tuple[str, str]], marks: Mapping[int, tuple[str, str]]
) -> dict[int, Named]:
    """Return trial -> the result that is named for it; a seal outranks a mark, that one the index and a line.

    *sealed* and *marks* (of the exclusive way of claiming) are trial -> (checksum, worker).
    """
    found: dict[int, Named] = {}
    for trial, told in facts.accepted.items():
        lines = {end: worker for end, worker in told.items() if not facts.taken_back(trial, end)}
        ends = facts.finals(trial)
        if lines and not ends.keys() & lines.keys():
            checksum, worker = min(lines.items())
            found[trial] = Named(checksum, worker, "an `accepted` line")
    for number, entry in enumerate(index.entries):
        if entry is not None and entry.final and not facts.taken_back(number, f"{entry.end:016x}"):
            found[number] = Named(f"{entry.end:016x}", f"{entry.owner:016x}", "the index")
    found |= {trial: Named(end, worker, "a mark") for trial, (end, worker) in marks.items()}
    return found | {trial: Named(end, worker, "a seal") for trial, (end, worker) in sealed.items()}


def lost_results(names: Mapping[int, Named], facts: Facts, trials: int) -> Lost:
    """Return the results that no journal holds, with what becomes of their trials."""
    lost = Lost()
    for trial, name in sorted(names.items()):
        ends = facts.finals(trial)
        if name.checksum in ends or not 0 <= trial < trials:
            continue
        published = name.by == "a seal"
        if published:
            lost.kept[trial] = name.checksum
        elif not ends:
            lost.runnable.append(trial)
        lost.cases.append(_lost(trial, name, other=bool(ends), journal=name.worker in facts.workers))
    return lost


def _lost(trial: int, name: Named, *, other: bool, journal: bool) -> Case:
    where = f"worker {name.worker}" if name.worker else "an unknown worker"
    gone = "does not hold it" if journal else "is gone"
    what = f"the result of trial {trial} ({name.by} names it) is lost: the journal of {where} {gone}"
    published = name.by == "a seal"
    if published:
        next_step = (
            "it was published, so it is not replaced: `rerun` computes it beside the ledger, "
            "the tables of the last collect are kept"
        )
    else:
        next_step = "another attempt's result counts" if other else "after --repair the trial runs again"
    finding = Finding(
        path=f"workers/{name.worker}",
        what=what,
        lost="its metrics" if not other else "",
        trials=(trial,),
        next=next_step,
    )
    remedy: Remedy = "rebuild" if not published and not other else "accept"
    evidence = f"lost/{trial}/{name.checksum}"
    return Case(finding, remedy, b"", evidence)


def with_kept(rebuilt: bytes, kept: Mapping[int, Entry]) -> bytes:
    """Return the *rebuilt* index with the entries *kept* of trials whose published results are lost."""
    data = bytearray(rebuilt)
    header = codec.parse_header(rebuilt)
    if header is None:
        return rebuilt
    added = 0
    for number, entry in kept.items():
        at = codec.entry_offset(number)
        before = codec.parse_entry(bytes(data[at : at + codec.RECORD_BYTES]))
        added += before is None or not before.final
        data[at : at + codec.RECORD_BYTES] = codec.encode_entry(entry)
    header = header._replace(finals=header.finals + added)
    data[: codec.HEADER_BYTES] = codec.encode_header(header)
    return bytes(data)
