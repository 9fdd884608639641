"""A planned run whose worker ended, every kind of file in it, to be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hpc_search import checkpoint, fsck, search
from hpc_search.collect import collect
from hpc_search.config.profile import Profile, signed_profile
from hpc_search.fsck import Finding, Report
from hpc_search.launchers.base import token
from hpc_search.ledger import Claimed, Identity, Ledger, history, this_process
from hpc_search.ledger.fold import fold
from hpc_search.ledger.samples import append_scores
from hpc_search.ledger.submits import Answer, Intent, Job
from hpc_search.planning import Numbering
from hpc_search.records import checked, index
from hpc_search.records import journal as lines
from hpc_search.records.index import Entry
from tests.ledger_run import NO_PID, end_of

SEARCH: Final = """\
name: example
trial: train.py:train
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
data: {index: data.csv, id: sample, label: y}
folds: {stratified: 2, test_share: 0.2}
heartbeat: 10
lease: 60
keep_checkpoints: true
"""


class FsckRun:
    """One run of six trials below *root*; nothing in it is claimed yet."""

    def __init__(self, root: Path, text: str = SEARCH) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "search.yaml").write_text(text)
        (root / "train.py").write_text("def train(trial):\n    return {'acc': trial.params['x'] / 7}\n")
        rows = "".join(f"s{number},{number % 2}\n" for number in range(20))
        (root / "data.csv").write_text(f"sample,y\n{rows}")
        self.run = search.plan_search(root / "search.yaml", str(root / "run")).run
        self.layout, self.plan = self.run.layout, self.run.plan
        self.numbering = Numbering(self.plan)

    def ledger(self, *, alive: bool = False) -> Ledger:
        """Join as a worker whose process is gone already, for all that others can see, unless *alive*."""
        me = this_process()
        pid = me.pid if alive else NO_PID
        identity = Identity(host=me.host, boot_id=me.boot_id, pid=pid, start_time=me.start_time)
        return Ledger(self.layout, self.plan, self.numbering, identity, lock_timeout=20)

    def finish(self, trials: int, *, exit: bool = True) -> str:  # noqa: A002 - what the worker does
        """Let a new worker end *trials* trials, each with a log, samples and a checkpoint; return its id."""
        ledger = self.ledger()
        log = 0
        for _ in range(trials):
            [claimed] = ledger.claim(1)
            ledger.start(claimed, 7, log)
            log = self.ended(ledger, claimed, log)
        ledger.flush()
        if exit:
            ledger.exit("no work left")
        else:
            ledger.journal.sync()
            ledger.close()
        return ledger.id

    def ended(self, ledger: Ledger, claimed: Claimed, log: int) -> int:
        """End a trial with a log, samples and a checkpoint; return where the log ends."""
        self.save(ledger, claimed)
        return self.end(ledger, claimed, log)

    def save(self, ledger: Ledger, claimed: Claimed) -> checkpoint.Slots:
        """Save the state of a trial; return its slots."""
        number = claimed.trial.number
        slots = checkpoint.Slots(self.layout, self.plan.run_id, number, claimed.attempt, ledger.id)
        slots.prepare()
        saved = slots.save(1, {"total": [0.5, number]})
        record = lines.Checkpoint(trial=number, attempt=claimed.attempt, step=1, slot=saved.slot)
        ledger.journal.append(record)
        return slots

    def end(self, ledger: Ledger, claimed: Claimed, log: int) -> int:
        """End a trial with a log and samples; return where the log ends."""
        number, layout = claimed.trial.number, self.layout
        with layout.log(ledger.id).open("ab") as file:
            file.write(b"output of a trial\n")
            end = file.tell()
        samples = append_scores(layout, ledger.id, number, claimed.attempt, ["s1", "s2"], [0.25, number])
        value = claimed.trial.params["x"] / 7
        metrics = {"acc": value}
        ledger.finish(end_of(claimed, value=value, metrics=metrics, log=(log, end), samples=samples))
        return end

    def archive(self) -> None:
        """Fold the workers that are gone."""
        assert fold(self.layout, this_process(), many=1) > 0

    def submitted(self) -> None:
        """Leave what a submission leaves."""
        self.layout.profile.write_bytes(signed_profile(Profile(name="site", partition="main")))
        answer = Answer(
            number=1,
            token=token(self.plan, 1),
            launcher="slurm",
            tasks=1,
            outcome="sent",
            jobs=(Job(id="17"),),
        )
        intent = Intent(**{name: getattr(answer, name) for name in Intent.__struct_fields__})
        self.layout.submit_intent(1).write_bytes(checked.encode(intent))
        self.layout.submit_record(1).write_bytes(checked.encode(answer))

    def complete(self) -> str:
        """End all trials, two of them in the archive, and submit and collect; return the last worker."""
        self.finish(2)
        self.archive()
        worker = self.finish(4)
        self.submitted()
        self.layout.doctor.write_bytes(checked.encode(Job(id="any record")))
        collect(self.layout)
        return worker

    # -- looking
    def check(self) -> Report:
        """Return what a check finds."""
        return fsck.check_run(self.layout)

    def bad(self) -> list[Finding]:
        """Return what a check finds, notes left out."""
        return [finding for finding in self.check().findings if finding.level != "note"]

    def repair(self) -> Report:
        """Repair."""
        return fsck.repair_run(self.layout)

    def entries(self) -> list[Entry]:
        """Return the index."""
        data = self.layout.claims.read_bytes()
        found = index.parse_entries(data[index.HEADER_BYTES :])
        assert None not in found
        return [entry for entry in found if entry is not None]

    def values(self) -> dict[int, float | None]:
        """Return the results by the journals."""
        return {trial: result.end.value for trial, result in history.results(self.layout).items()}

    def snapshot(self) -> dict[str, bytes]:
        """Return every file."""
        return {
            path.relative_to(self.layout.root).as_posix(): path.read_bytes()
            for path in self.layout.root.rglob("*")
            if path.is_file()
        }


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)
