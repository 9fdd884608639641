"""The log of proposed points."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hpc_search.errors import DamagedError
from hpc_search.layout import Layout
from hpc_search.ledger import names, proposals
from hpc_search.ledger.proposals import Proposals
from hpc_search.records.proposals import Entry, encode_entries
from tests.ledger_run import flip

#: Entries of a pack here.
PACK = 16


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(names, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(proposals, "PACK", PACK)
    (tmp_path / "ledger").mkdir()
    return Layout(tmp_path)


def entry(point: int, x: Any = None, **more: Any) -> Entry:
    return Entry(point=point, params={"x": point if x is None else x}, **more)


def fill(layout: Layout, count: int) -> Proposals:
    """Publish points until the log has *count* entries."""
    log = Proposals(layout)
    log.read()
    for point in range(len(log), count):
        published = log.publish(entry(point))
        assert published is not None
        assert published.entry == point
    return log


def stored(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.proposals.iterdir())


def test_a_log_that_nobody_wrote_to_is_empty(layout: Layout) -> None:
    log = Proposals(layout)
    log.read()
    assert (len(log), log.of(0), log.settled(0)) == (0, None, None)


def test_every_worker_reads_what_one_has_proposed(layout: Layout) -> None:
    log = fill(layout, 3)
    other = Proposals(layout)
    other.read()
    assert other.all == log.all
    assert [other.of(point) for point in range(4)] == [log.of(0), log.of(1), log.of(2), None]


def test_who_comes_second_adopts_the_proposal_of_the_first(layout: Layout) -> None:
    first, second = Proposals(layout), Proposals(layout)
    second.read()
    mine = first.publish(entry(0, "first", worker="a"))
    assert second.publish(entry(0, "second", worker="b")) == mine
    assert stored(layout) == ["0000000"]


def test_who_proposes_what_another_point_has_by_now_is_told_to_propose_again(layout: Layout) -> None:
    first, second = Proposals(layout), Proposals(layout)
    second.read()
    first.publish(entry(0, 1.0))
    assert second.publish(entry(1, 1)) is None
    again = second.publish(entry(1, 2))
    assert again is not None
    assert again.entry == 1


def test_points_of_two_families_may_be_equal(layout: Layout) -> None:
    log = Proposals(layout)
    assert log.publish(entry(0, 7, family="a/coarse")) is not None
    assert log.publish(entry(1, 7, family="a/fine")) is not None


def test_every_so_many_entries_become_one_file(layout: Layout) -> None:
    fill(layout, 2 * PACK + 3)
    singles = [f"{number:07d}" for number in range(2 * PACK, 2 * PACK + 3)]
    packs = [layout.proposal_pack(0, PACK).name, layout.proposal_pack(PACK, 2 * PACK).name]
    assert stored(layout) == [*singles, *packs]
    other = Proposals(layout)
    other.read()
    assert sorted(other.all) == list(range(2 * PACK + 3))


def test_a_pack_that_its_worker_did_not_come_to_is_made_by_the_next_one(layout: Layout) -> None:
    fill(layout, PACK)
    pack = layout.proposal_pack(0, PACK)
    lines = pack.read_bytes().splitlines(keepends=True)
    # As it was before.
    pack.unlink()
    for number, line in enumerate(lines):
        layout.proposal(number).write_bytes(line)
    fill(layout, PACK + 1)
    assert stored(layout) == [f"{PACK:07d}", pack.name]


def test_names_that_were_not_removed_after_their_pack_are_by_the_next_one(layout: Layout) -> None:
    fill(layout, PACK)
    lines = layout.proposal_pack(0, PACK).read_bytes().splitlines(keepends=True)
    for number in range(9):
        layout.proposal(number).write_bytes(lines[number])
    fill(layout, PACK + 1)
    assert stored(layout) == [f"{PACK:07d}", layout.proposal_pack(0, PACK).name]


class Stopped(Proposals):
    """A worker that is stopped, for as long as `meanwhile` takes, before it publishes an entry."""

    meanwhile: Any = None

    def _create(self, mine: Entry) -> bool:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super()._create(mine)


def test_an_entry_that_is_created_after_its_pack_is_none(layout: Layout) -> None:
    fill(layout, 5)
    late = Stopped(layout)
    late.meanwhile = lambda: fill(layout, PACK + 2)

    published = late.publish(entry(1000))

    assert published is not None
    assert published.entry == PACK + 2
    singles = [f"{PACK + number:07d}" for number in range(3)]
    assert stored(layout) == [*singles, layout.proposal_pack(0, PACK).name]
    assert late.of(5) == entry(5, entry=5, after=published_mark(layout, 4))


def test_who_comes_too_late_for_its_own_point_adopts_what_was_packed(layout: Layout) -> None:
    fill(layout, 5)
    late = Stopped(layout)
    late.meanwhile = lambda: fill(layout, PACK)

    published = late.publish(entry(5, "late"))

    assert published is not None
    assert published.params == {"x": 5}


def test_nobody_runs_what_a_worker_created_too_late_and_was_killed_before_it_took_it_back(
    layout: Layout,
) -> None:
    log = fill(layout, 5)
    bogus = entry(5, "bogus", entry=5, after=log._head)
    reader = Hidden(layout)
    reader.read()
    fill(layout, PACK)
    layout.proposal(5).write_bytes(encode_entries([bogus]))

    reader.hides = True
    reader.read()
    assert reader.of(5) == bogus
    reader.changes = True
    found = reader.settled(5)
    assert found is not None
    assert found.params == {"x": 5}
    # And the next one who publishes removes it.
    fill(layout, PACK + 1)
    assert not layout.proposal(5).exists()


def test_what_was_published_after_an_entry_that_came_too_late_does_not_count(layout: Layout) -> None:
    log = fill(layout, PACK - 1)
    bogus = entry(PACK - 1, "bogus", entry=PACK - 1, after=log._head)
    reader = Hidden(layout)
    reader.read()
    fill(layout, PACK)
    layout.proposal(PACK - 1).write_bytes(encode_entries([bogus]))
    reader.hides = True
    reader.read()
    assert reader.of(PACK - 1) == bogus

    published = reader.publish(entry(1000))

    assert published is not None
    assert published.entry == PACK + 1
    fresh = Proposals(layout)
    fresh.read()
    assert fresh.all == reader.all
    assert fresh.all[PACK - 1].params == {"x": PACK - 1}
    assert len(fresh) == PACK + 2


class Hidden(Proposals):
    """A worker whose client does not show it packs until it changed the directory itself."""

    hides = changes = False

    def __init__(self, layout: Layout, only: int | None = None) -> None:
        super().__init__(layout)
        self.only = only

    def _read_pack(self, first: int) -> bool:
        hidden = self.hides and self.only in (None, first)
        return not hidden and super()._read_pack(first)

    def _create(self, mine: Entry) -> bool:
        self.hides = False
        return super()._create(mine)

    def _make_sure(self) -> list[str]:
        self.hides = self.hides and not self.changes
        return super()._make_sure()


def test_where_there_are_no_hard_links_it_is_the_same(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    first, second = Proposals(layout), Proposals(layout)
    second.read()
    mine = first.publish(entry(0, "first"))
    assert second.publish(entry(0, "second")) == mine
    # Killed between the guard and the name: whoever comes next gives it the name.
    layout.proposal(0).unlink()
    third = Proposals(layout)
    assert third.publish(entry(0, "third")) == mine
    fill(layout, PACK + 1)
    packs = [path.name for path in layout.proposals.glob("packed*")]
    assert [name for name in stored(layout) if name not in packs and ".guard" not in name] == [f"{PACK:07d}"]
    assert not layout.proposal(0).with_name("0000000.guard").exists()


def test_a_pack_outranks_the_names_beside_it(layout: Layout) -> None:
    log = fill(layout, 5)
    bogus = entry(5, "bogus", entry=5, after=log._head)
    fill(layout, PACK)
    layout.proposal(5).write_bytes(encode_entries([bogus]))
    log.read()
    assert log.all[5].params == {"x": 5}
    assert len(log) == PACK


def test_who_believed_what_came_too_late_reads_all_that_follows_again(layout: Layout) -> None:
    log = fill(layout, PACK - 1)
    bogus = entry(PACK - 1, "bogus", entry=PACK - 1, after=log._head)
    reader = Hidden(layout, only=0)
    reader.read()
    fill(layout, 2 * PACK)
    layout.proposal(PACK - 1).write_bytes(encode_entries([bogus]))
    reader.hides = reader.changes = True
    reader.read()
    assert len(reader) == 2 * PACK
    assert reader.of(PACK - 1) == bogus

    reader.settled(2 * PACK - 1)
    fresh = Proposals(layout)
    fresh.read()
    assert reader.all == fresh.all
    assert len(fresh.all) == 2 * PACK


def test_an_entry_that_is_missing_is_not_replaced(layout: Layout) -> None:
    fill(layout, 5)
    layout.proposal(3).unlink()
    with pytest.raises(DamagedError, match="0000003 is missing"):
        Proposals(layout).publish(entry(1000))
    assert stored(layout) == ["0000000", "0000001", "0000002", "0000004"]


def test_an_entry_that_does_not_verify_is_said_so_and_nothing_is_published(layout: Layout) -> None:
    fill(layout, 3)
    flip(layout.proposal(1), 80)
    with pytest.raises(DamagedError, match="0000001 does not verify"):
        Proposals(layout).publish(entry(1000))
    assert stored(layout) == ["0000000", "0000001", "0000002"]


def test_a_name_that_is_no_entry_is_said_so(layout: Layout) -> None:
    fill(layout, 1)
    layout.proposal(1).symlink_to("nowhere")
    with pytest.raises(DamagedError, match="0000001 is there and cannot be read"):
        Proposals(layout).publish(entry(1000))


def test_marks_do_not_depend_on_the_form_of_numbers() -> None:
    assert entry(3, 1.0).mark == entry(3, 1).mark
    assert entry(3, 1).mark != entry(3, 2).mark
    assert Entry(point=0, params={"b": 1, "a": None}).mark == Entry(point=0, params={"a": None, "b": 1}).mark


def published_mark(layout: Layout, number: int) -> str:
    log = Proposals(layout)
    log.read()
    return log._log[number].mark
