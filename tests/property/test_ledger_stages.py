"""The same workers where trials wait at rungs, blocks for others, and searches stop, against a model."""

from __future__ import annotations

from contextlib import suppress
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import consumes, rule

from hpc_search.ledger import Claimed, IndexDamagedError, Ledger
from hpc_search.ledger.gates import Gates
from hpc_search.records import index
from hpc_search.records.stages import Opened
from tests.ledger_run import Waits, end_of
from tests.property.test_ledger_machine import SETTINGS, TRIALS, Killed, Ledgers, SmallSuperblocks, Worker


class StagedLedgers(Ledgers):
    """Trials that wait at rungs, blocks that wait for others, and searches that stop."""

    #: Trials 0-1, 2, 3 and 4.
    blocks = (
        Waits(2, part="a"),
        Waits(1, part="b"),
        Waits(1, needs=0, part="a"),
        Waits(1, needs=1, part="b"),
    )

    living = Ledgers.living
    zombies = Ledgers.zombies

    def __init__(self) -> None:
        super().__init__()
        #: (trial, rung) that were promoted, and promotions of workers that died in the middle of them.
        self.promoted: set[tuple[int, int]] = set()
        self.begun: set[tuple[int, int]] = set()
        #: Trials that a zombie paused when others had them: the journals may say so when the index is gone.
        self.doubtful: set[int] = set()

    # -- rungs
    def pause(self, worker: Worker) -> None:
        """Let the next trial of *worker* wait at its next rung, or end it where it was owned for that."""
        if worker.claimed:
            claimed = worker.claimed.pop(0)
            if claimed.before.flags & index.FLAG_ENDING:
                worker.ledger.finish(end_of(claimed, "pruned"))
                return
            rung = claimed.before.rung + 1
            worker.ledger.finish(end_of(claimed, "paused", rung=rung, step=rung))

    @rule(worker=living, marked=st.booleans())
    def run_to_a_rung(self, worker: Worker, marked: bool) -> None:
        self.claim_some(worker, 1)
        self.pause(worker)
        if marked:
            worker.ledger.flush()

    @rule(zombie=zombies)
    def pause_late(self, zombie: Worker) -> None:
        self.doubtful.update(one.trial.number for one in zombie.claimed)
        self.pause(zombie)
        zombie.ledger.flush()

    @rule(worker=living, place=st.integers(0, TRIALS - 1), crashes=st.booleans())
    def promote(self, worker: Worker, place: int, crashes: bool) -> None:
        claimed = worker.ledger.promote(self.paused(place))
        self.check_claims(claimed)
        for one in claimed:
            assert one.before.state == index.PAUSED
            rung = one.trial.number, one.before.rung
            assert rung not in self.promoted or one.trial.number in self.doubtful, "promoted twice"
            self.promoted.add(rung)
        worker.claimed += [] if crashes else claimed

    @rule(worker=living, place=st.integers(0, TRIALS - 1))
    def promote_what_is_run(self, worker: Worker, place: int) -> None:
        """Nobody gets what another one has."""
        entries = self.entries()
        if entries and entries[place].state != index.PAUSED and not worker.ledger.waiting:
            assert worker.ledger.promote(place) == []

    @rule(one=living, two=living, place=st.integers(0, TRIALS - 1), to_end=st.booleans())
    def promote_at_once(self, one: Worker, two: Worker, place: int, to_end: bool) -> None:
        """Another one comes between the claim and its record."""
        number, own, late = self.paused(place), Ledger._own, []

        def interrupted(ledger: Ledger, *given: object) -> list[Claimed]:
            if ledger is one.ledger and one is not two:
                late.extend(two.ledger.promote(number))
            return own(ledger, *given)  # type: ignore[arg-type]

        with mock.patch.object(Ledger, "_own", interrupted):
            claimed = one.ledger.end_paused([number]) if to_end else one.ledger.promote(number)
        assert not (claimed and late), "two have it"
        self.promoted.update((mine.trial.number, mine.before.rung) for mine in claimed if not to_end)
        one.claimed += claimed

    @rule(worker=consumes(living), place=st.integers(0, TRIALS - 1), to_end=st.booleans())
    def die_on_the_way(self, worker: Worker, place: int, to_end: bool) -> None:
        """It dies when it owns a paused trial and its journal does not say so."""
        number, entries = self.paused(place), self.entries()
        with mock.patch.object(Ledger, "_own", side_effect=Killed), suppress(Killed):
            if to_end:
                worker.ledger.end_paused([number])
            else:
                worker.ledger.promote(number)
        if not entries:
            self.doubtful.add(number)
        elif not to_end and entries[number].state == index.PAUSED:
            self.begun.add((number, entries[number].rung))
        del self.alive[worker.pid]

    @rule(worker=living, place=st.integers(0, TRIALS - 1), ends=st.booleans())
    def end_paused(self, worker: Worker, place: int, ends: bool) -> None:
        numbers = sorted({place, self.paused(place)})
        claimed = worker.ledger.end_paused(numbers)
        assert {one.trial.number for one in claimed} <= set(numbers)
        assert all(one.before.state == index.PAUSED for one in claimed)
        for one in claimed if ends else ():
            worker.ledger.finish(end_of(one, "pruned"))
        worker.claimed += [] if ends else claimed

    def paused(self, place: int) -> int:
        """Return a trial that is paused, one of those as *place* says; any other where there is none."""
        found = [number for number, entry in enumerate(self.entries()) if entry.state == index.PAUSED]
        return found[place % len(found)] if found else place

    # -- gates
    @rule(worker=living, block=st.integers(0, 3))
    def decide(self, worker: Worker, block: int) -> None:
        space = self.run.plan.blocks[block].space
        worker.ledger.gates.publish(Opened(block=block, space=space))

    @rule(worker=living, other=living, part=st.integers(0, 1))
    def stop_part(self, worker: Worker, other: Worker, part: int) -> None:
        worker.ledger.gates.stop_part(part, "it fails")
        self.claim_some(other, 2)

    @rule(part=st.integers(0, 1))
    def start_part(self, part: int) -> None:
        self.run.layout.stopped_part(part).unlink(missing_ok=True)

    def entries(self) -> list[index.Entry]:
        try:
            return self.run.entries()
        except IndexDamagedError:
            return []

    def check_new(self, claimed: list[Claimed]) -> None:
        gates = Gates(self.run.layout, self.run.plan)
        for one in claimed:
            assert not gates.shut(one.trial.number), "it is behind a gate"
            assert one.before.state != index.PAUSED, "it waits at a rung"
            rung = one.trial.number, one.before.rung
            known = self.promoted | self.begun
            assert not one.before.rung or rung in known or one.trial.number in self.doubtful

    def end(self) -> None:
        gates = Gates(self.run.layout, self.run.plan)
        for part in range(2):
            self.run.layout.stopped_part(part).unlink(missing_ok=True)
        for block, planned in enumerate(self.run.plan.blocks):
            gates.publish(Opened(block=block, space=planned.space))
        super().end()

    def woken(self, ledger: Ledger) -> list[Claimed]:
        paused = [number for number, entry in enumerate(self.run.entries()) if entry.state == index.PAUSED]
        return [
            *ledger.end_paused(paused[:1]),
            *(one for number in paused[1:] for one in ledger.promote(number)),
        ]


class StagedExclusiveLedgers(SmallSuperblocks, StagedLedgers):
    """Claims of one trial each, which wait at rungs."""


TestStagedLedgers = StagedLedgers.TestCase
TestStagedLedgers.settings = SETTINGS
TestStagedExclusiveLedgers = StagedExclusiveLedgers.TestCase
TestStagedExclusiveLedgers.settings = SETTINGS
