"""Workers that claim, finish, crash, come back late and find a damaged index, against a model."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hpc_search.ledger import (
    Claimed,
    IndexDamagedError,
    Ledger,
    exclusive,
    history,
    liveness,
    orders,
    read_state,
    retries,
    superblocks,
)
from hpc_search.ledger import vacant as vacant_blocks
from hpc_search.ledger.fold import fold
from hpc_search.mounts import Claiming
from hpc_search.records import index
from hpc_search.records import journal as lines
from tests.ledger_run import LedgerRun, Waits, end_of, flip

TRIALS = 5
PIDS = 10**7


class Killed(BaseException):
    """A command dies here."""


class Worker:
    """A ledger and the trials that its process holds in memory."""

    def __init__(self, ledger: Ledger, pid: int) -> None:
        self.ledger = ledger
        self.pid = pid
        self.claimed: list[Claimed] = []


class Ledgers(RuleBasedStateMachine):
    """Every process of the run in one; `alive` is what the kernel would say."""

    claiming: Claiming = "lock"
    blocks: tuple[Waits, ...] = (Waits(TRIALS),)
    living = Bundle("living")
    zombies = Bundle("zombies")

    def __init__(self) -> None:
        super().__init__()
        # On a disk in memory: what is tested is the order of things, not the disk.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(dir=memory))
        self.run = LedgerRun(self.directory / "run", claiming=self.claiming, blocks=self.blocks)
        self.alive: dict[int, Worker] = {}
        self.finals: dict[int, tuple[int, float]] = {}
        self.values = 0
        self.retried = 0
        self.patch = mock.patch.object(liveness, "start_time", lambda pid: 1 if pid in self.alive else None)
        self.patch.start()

    def teardown(self) -> None:
        """End the run with one worker, and look at the results."""
        try:
            self.end()
        finally:
            self.patch.stop()
            self.run.close()
            shutil.rmtree(self.directory)

    def make(self) -> Worker:
        pid = PIDS + len(self.run._open)
        worker = Worker(self.run.ledger(pid=pid, start_time=1), pid)
        self.alive[pid] = worker
        return worker

    # -- what processes do
    @rule(target=living)
    def start(self) -> Worker:
        worker = self.make()
        worker.ledger.recover()
        return worker

    @rule(worker=living, limit=st.integers(1, 3))
    def claim(self, worker: Worker, limit: int) -> None:
        self.claim_some(worker, limit)

    @rule(worker=living, state=st.sampled_from(["done", "failed", "pending"]), step=st.integers(0, 3))
    def finish(self, worker: Worker, state: str, step: int) -> None:
        self.finish_one(worker, state, step)

    @rule(worker=living)
    def flush(self, worker: Worker) -> None:
        worker.ledger.flush()

    @rule(worker=living)
    def give_back(self, worker: Worker) -> None:
        worker.ledger.give_back(worker.claimed)
        worker.claimed = []

    @rule(worker=living)
    def beat_and_let_go(self, worker: Worker) -> None:
        lost = worker.ledger.beat()
        worker.claimed = [one for one in worker.claimed if one.trial.number not in lost]

    @rule(worker=living)
    def recover(self, worker: Worker) -> None:
        worker.ledger.recover()

    @rule(worker=living)
    def reconcile(self, worker: Worker) -> None:
        worker.ledger.reconcile()

    @rule(worker=consumes(living))
    def leave(self, worker: Worker) -> None:
        worker.ledger.give_back(worker.claimed)
        worker.ledger.exit("no work left")
        del self.alive[worker.pid]

    @rule(worker=consumes(living), torn=st.binary(max_size=20))
    def crash(self, worker: Worker, torn: bytes) -> None:
        """It dies in the middle of a line."""
        del self.alive[worker.pid]
        path = self.run.layout.journal(worker.ledger.id, worker.ledger.journal.segment)
        with path.open("ab") as file:
            file.write(torn)

    @rule(target=zombies, worker=consumes(living))
    def vanish(self, worker: Worker) -> Worker:
        """It is dead for all others; and it may come back, as on a node that hung."""
        self.claim_some(worker, 1)
        del self.alive[worker.pid]
        return worker

    @rule(zombie=zombies)
    def overtake(self, zombie: Worker) -> None:
        """Another one ends what the zombie still believes to be its own."""
        worker = self.make()
        worker.ledger.recover()
        for old in zombie.claimed[:1]:
            worker.claimed = worker.ledger.claim(1, only=old.trial.number)
            self.check_claims(worker.claimed)
            self.finish_one(worker, "done", 0)
            worker.ledger.flush()
        worker.ledger.exit("no work left")
        del self.alive[worker.pid]

    @rule(zombie=zombies)
    def end_both(self, zombie: Worker) -> None:
        """Another one takes the trial over, and both end it before either can tell."""
        worker = self.make()
        worker.ledger.recover()
        for old in zombie.claimed[:1]:
            worker.claimed = worker.ledger.claim(1, only=old.trial.number)
            self.check_claims(worker.claimed)
            self.finish_one(worker, "done", 0)
            self.finish_one(zombie, "done", 0)
        zombie.ledger.flush()
        worker.ledger.flush()
        worker.ledger.exit("no work left")
        del self.alive[worker.pid]

    @rule(zombie=zombies, state=st.sampled_from(["done", "pending"]))
    def come_back(self, zombie: Worker, state: str) -> None:
        self.finish_one(zombie, state, 0)
        zombie.ledger.flush()

    @rule(worker=living)
    def fold_the_dead(self, worker: Worker) -> None:
        fold(self.run.layout, worker.ledger.me, many=1)

    @rule(limit=st.integers(1, 3))
    def fail_some(self, limit: int) -> None:
        """A worker comes, fails and leaves: so that there are failures to take back."""
        worker = self.make()
        worker.ledger.recover()
        self.claim_some(worker, limit)
        while worker.claimed:
            self.finish_one(worker, "failed", 0)
        worker.ledger.exit("no work left")
        del self.alive[worker.pid]

    # -- what the user orders
    @rule(wanted=st.sets(st.integers(0, TRIALS - 1), min_size=1), keep=st.booleans(), dies=st.booleans())
    def retry(self, wanted: set[int], keep: bool, dies: bool) -> None:
        """Failures are taken back; the command may be killed as soon as that is published."""
        worker = self.make()
        note = mock.patch.object(orders, "_note", side_effect=Killed if dies else None)
        with note, suppress(Killed):
            orders.retry(worker.ledger, lambda n, _: n in wanted, "why", keep_ladder=keep)
        for batch in retries.read(self.run.layout).batches[self.retried :]:
            self.retried += 1
            for one in batch.trials:
                assert one.trial in wanted
                self.finals.pop(one.trial, None)
        self.end_command(worker, dies)

    @rule(wanted=st.sets(st.integers(0, TRIALS - 1), min_size=1), dies=st.booleans())
    def skip(self, wanted: set[int], dies: bool) -> None:
        """Trials are ended from outside; the command may be killed between their ends and the marks."""
        worker = self.make()
        flush = mock.patch.object(orders, "_flush", side_effect=Killed) if dies else nullcontext()
        with flush, suppress(Killed):
            skipped = orders.skip(worker.ledger, wanted, "skipped")
            assert set(skipped) <= wanted
            assert not set(skipped) & set(self.finals), "a result was replaced"
        self.end_command(worker, dies)
        if dies and self.claiming == "exclusive":
            # Nobody owns what a command ends there; whoever starts, or the command again, finds its end.
            again = self.make()
            again.ledger.reconcile()
            self.end_command(again, dies=False)

    def end_command(self, worker: Worker, dies: bool) -> None:
        del self.alive[worker.pid]
        if not dies:
            worker.ledger.exit("done")

    # -- what happens to the index
    @rule(
        kind=st.sampled_from(["gone", "cut", "header", "record", "cursor"]), place=st.integers(0, TRIALS - 1)
    )
    def damage(self, kind: str, place: int) -> None:
        path = self.run.layout.claims
        if not path.exists():
            return
        if kind == "gone":
            path.unlink()
        elif kind == "cut":
            os.truncate(path, index.entry_offset(place) + 7)
        elif kind == "cursor":
            # As a worker leaves it that is killed between a record and the header.
            header = index.parse_header(path.read_bytes())
            with path.open("r+b") as file:
                file.write(index.encode_header(header._replace(cursor=TRIALS)) if header else b"")
        elif path.stat().st_size >= index.index_bytes(TRIALS):
            flip(path, 9 if kind == "header" else index.entry_offset(place) + 3)

    # -- what must hold
    def claim_some(self, worker: Worker, limit: int) -> None:
        if not worker.claimed:
            worker.claimed = worker.ledger.claim(limit)
            self.check_claims(worker.claimed)
            self.check_new(worker.claimed)

    def finish_one(self, worker: Worker, state: str, step: int) -> None:
        if worker.claimed:
            claimed = worker.claimed.pop(0)
            self.values += 1
            more: dict[str, Any] = {"cause": {"failed": "error", "pending": "preempted"}.get(state, "")}
            worker.ledger.finish(end_of(claimed, state, float(self.values), step=step, **more))

    def check_claims(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            assert one.trial.number not in self.finals, "finished work is run again"

    def check_new(self, claimed: list[Claimed]) -> None:
        """Look at trials that `claim` gave."""

    @invariant()
    def a_final_result_never_changes(self) -> None:
        try:
            header, entries = read_state(self.run.layout, TRIALS)
        except IndexDamagedError:
            return
        results = history.results(self.run.layout)
        known = retries.read(self.run.layout)
        for number, entry in enumerate(entries):
            # Of a retry that was killed the index may show the failure until somebody reconciles.
            if entry.final and not known.unsealed(number, f"{entry.end:016x}"):
                assert self.finals.setdefault(number, (entry.end, entry.value)) == (entry.end, entry.value)
            if number in self.finals:
                assert int(results[number].checksum, 16) == self.finals[number][0]
        assert header.finals == sum(entry.final for entry in entries)

    def end(self) -> None:
        for worker in list(self.alive.values()):
            del self.alive[worker.pid]
        last = self.make()
        if self.retried:
            # As every worker does when it starts: a retry may have been killed.
            last.ledger.reconcile()
        for _ in range(100):
            last.ledger.recover()
            claimed = [*last.ledger.claim(3), *self.woken(last.ledger)]
            self.check_claims(claimed)
            for one in claimed:
                last.ledger.finish(end_of(one))
            if not claimed and not last.ledger.waiting:
                break
        last.ledger.reconcile()
        self.a_final_result_never_changes()
        entries = dict(enumerate(self.run.entries()))
        lost = [number for number, entry in entries.items() if not entry.final]
        assert not lost, "a trial is lost"
        results = history.results(self.run.layout)
        assert {number: int(result.checksum, 16) for number, result in results.items()} == {
            number: entry.end for number, entry in entries.items() if entry.final
        }
        known = retries.read(self.run.layout)
        accepted: dict[int, set[str]] = {}
        for record in self.run.records("accepted"):
            assert isinstance(record, lines.Accepted)
            if not known.unsealed(record.trial, record.end):
                accepted.setdefault(record.trial, set()).add(record.end)
        assert all(len(ends) == 1 for ends in accepted.values()), "two results were accepted"

    def woken(self, ledger: Ledger) -> list[Claimed]:
        """Own what no `claim` gives."""
        del ledger
        return []


class SmallSuperblocks(Ledgers):
    """Without locks, on superblocks so small that they are sealed and merged in the middle."""

    claiming = "exclusive"

    def __init__(self) -> None:
        self.small = [
            mock.patch.object(superblocks, "SUPERBLOCK", 2),
            mock.patch.object(exclusive, "SUPERBLOCK", 2),
            mock.patch.object(vacant_blocks, "SUPERBLOCK", 2),
            mock.patch.object(superblocks, "_MERGE", 2),
        ]
        for one in self.small:
            one.start()
        super().__init__()

    def teardown(self) -> None:
        """End the run, and its superblocks with it."""
        try:
            super().teardown()
        finally:
            for one in self.small:
                one.stop()

    @rule(place=st.integers(0, TRIALS - 1))
    def opened_again_by_an_old_view(self, place: int) -> None:
        """A client that did not see the seal makes the directory once more."""
        layout = self.run.layout
        superblock = superblocks.Superblocks(layout, TRIALS)
        if superblock.sealed(place // 2):
            layout.superblock(place // 2).mkdir(exist_ok=True)


class ExclusiveLedgers(SmallSuperblocks):
    """Claims of several trials."""


SETTINGS = settings(
    max_examples=int(os.environ.get("LEDGER_EXAMPLES", "60")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLedgers = Ledgers.TestCase
TestLedgers.settings = SETTINGS
TestExclusiveLedgers = ExclusiveLedgers.TestCase
TestExclusiveLedgers.settings = SETTINGS
