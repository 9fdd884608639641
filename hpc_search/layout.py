"""Every path of a run directory. Nothing else builds one."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: A worker id: 8 random bytes in hexadecimal, one an incarnation.
WORKER_ID: Final = re.compile(r"[0-9a-f]{16}")
_JOURNAL: Final = re.compile(r"journal\.(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one RUN."""

    root: Path

    def __str__(self) -> str:
        """Return the root as a shell takes it, for commands that are shown."""
        return shlex.quote(str(self.root))

    # -- made by plan, never changed
    @property
    def search_yaml(self) -> Path:
        """The search as resolved, to read."""
        return self.root / "search.yaml"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.json"

    def later_plan(self, number: int) -> Path:
        """Return the path of plan *number*, 2 for the first that an amendment made."""
        return self.root / f"plan.{number:03d}.json"

    def later_search(self, number: int) -> Path:
        """Return the path of the search of plan *number*, to read."""
        return self.root / f"search.{number:03d}.yaml"

    def later_digests(self, number: int) -> Path:
        """Return the path of the digests of these two, with a copy of plan *number*."""
        return self.root / f"digests.{number:03d}.json"

    @property
    def instance(self) -> Path:
        """Nonce and real path of this copy of the run."""
        return self.root / "instance.json"

    @property
    def digests(self) -> Path:
        """Digests of what plan made, and a copy of plan.json."""
        return self.root / "digests.json"

    @property
    def code(self) -> Path:
        """The user's sources as planned."""
        return self.root / "code.zip"

    @property
    def provenance(self) -> Path:
        """Where the sources come from, and the packages that were installed."""
        return self.root / "provenance.json"

    @property
    def code_diff(self) -> Path:
        """What no commit had of the sources."""
        return self.root / "code.diff"

    def later_code(self, digest: str) -> Path:
        """The user's sources as taken again, with this *digest*."""
        return self.root / f"code.{digest[:8]}.zip"

    def later_diff(self, digest: str) -> Path:
        """What no commit had of them then."""
        return self.root / f"code.{digest[:8]}.diff"

    @property
    def splits(self) -> Path:
        """Manifests of the folds."""
        return self.root / "splits"

    @property
    def splits_index(self) -> Path:
        """Digest and row count of every manifest."""
        return self.splits / "splits.json"

    @property
    def splits_rest(self) -> Path:
        """Manifest of the samples that no fold has."""
        return self.splits / "rest.csv"

    @property
    def splits_listing(self) -> Path:
        """Name and size of every file of the data."""
        return self.splits / "files.csv"

    @property
    def splits_file(self) -> Path:
        """The folds.json that the search names, as it was planned."""
        return self.splits / "folds.json"

    def split_manifest(self, fold: int, part: str) -> Path:
        """Manifest of *part* ("train", "val" or "test") of *fold*."""
        return self.splits / f"fold_{fold:02d}" / f"{part}.csv"

    @property
    def vault(self) -> Path:
        """Who opened the test side, when, why, and what came of it: published once each."""
        return self.root / "vault"

    def vault_opening(self, number: int) -> Path:
        """Return the record of opening *number* (from 1), made before the first byte of it is read."""
        return self.vault / f"opening.{number:03d}.json"

    def vault_result(self, number: int) -> Path:
        """Return what came of opening *number*."""
        return self.vault / f"result.{number:03d}.json"

    def vault_again(self, number: int, time: int) -> Path:
        """Return the record of going on with opening *number* for the *time*-th time (from 1)."""
        return self.vault / f"again.{number:03d}.{time:02d}.json"

    def vault_refused(self, number: int, after: int) -> Path:
        """Return why opening *number* tested nothing when somebody had gone on with it *after* times."""
        return self.vault / f"refused.{number:03d}.{after:02d}.json"

    # -- the ledger
    @property
    def ledger(self) -> Path:
        """Index, lock, seals, submissions, archive."""
        return self.root / "ledger"

    @property
    def claims(self) -> Path:
        """The index: one fixed-size record a trial."""
        return self.ledger / "claims.bin"

    @property
    def claims_lock(self) -> Path:
        """The lock of the index."""
        return self.ledger / "claims.lock"

    def coarse_lock(self, verb: str) -> Path:
        """The lock that keeps two commands *verb* ("submit", "collect", "archive") apart."""
        return self.ledger / f"{verb}.lock"

    @property
    def mode_exclusive(self) -> Path:
        """Present once locks cannot be trusted here: trials are claimed by exclusively created names."""
        return self.ledger / "mode.exclusive"

    @property
    def open(self) -> Path:
        """The superblocks that are worked on, and the seals of those that ended."""
        return self.ledger / "open"

    def superblock(self, number: int) -> Path:
        """Claims and accepted ends of superblock *number*."""
        return self.open / f"{number:06d}"

    def superblock_seal(self, first: int, end: int) -> Path:
        """The accepted ends of the trials *first* to *end* - 1, which are all final."""
        return self.open / f"sealed.{first:08d}-{end:08d}"

    @property
    def seals(self) -> Path:
        """Published acceptance lists."""
        return self.ledger / "seals"

    def seal(self, number: int) -> Path:
        """The seal *number* (from 1)."""
        return self.seals / f"{number:04d}.jsonl"

    @property
    def submits(self) -> Path:
        """Published submissions."""
        return self.ledger / "submits"

    def submit_intent(self, number: int) -> Path:
        """What submission *number* (from 1) is about to send."""
        return self.submits / f"{number:04d}.intent.json"

    def submit_record(self, number: int) -> Path:
        """What the scheduler answered to submission *number*."""
        return self.submits / f"{number:04d}.jobs.json"

    @property
    def snapshots(self) -> Path:
        """Published records of sources that were taken again."""
        return self.ledger / "snapshots"

    def snapshot_record(self, number: int) -> Path:
        """Which sources workers run that start after snapshot *number* (from 1)."""
        return self.snapshots / f"{number:04d}.json"

    @property
    def stages(self) -> Path:
        """What became of the blocks of the plan that wait for others, published once each."""
        return self.ledger / "stages"

    def stage(self, block: int) -> Path:
        """Return the record of the block at position *block* of the plan."""
        return self.stages / f"{block:03d}.json"

    @property
    def stopped_parts(self) -> Path:
        """Marks of the searches of a plan that stopped by themselves."""
        return self.ledger / "stopped"

    def stopped_part(self, part: int) -> Path:
        """Return the mark of the search at position *part* of the plan's."""
        return self.stopped_parts / f"{part:02d}.json"

    @property
    def proposals(self) -> Path:
        """The log of proposed points, one name an entry until they are packed."""
        return self.ledger / "proposals"

    def proposal(self, entry: int) -> Path:
        """Return entry number *entry* of the log of proposals."""
        return self.proposals / f"{entry:07d}"

    def proposal_pack(self, first: int, end: int) -> Path:
        """Return the pack of the entries *first* to *end* - 1 of the log of proposals."""
        return self.proposals / f"packed.{first:07d}-{end:07d}.jsonl"

    @property
    def began(self) -> Path:
        """Present once the first trial started: its time, the file server's, is the beginning."""
        return self.ledger / "began"

    @property
    def stop(self) -> Path:
        """Present when workers shall claim nothing more (cancel, circuit breaker)."""
        return self.ledger / "stop"

    @property
    def paused(self) -> Path:
        """Present while the run is paused: workers save, end, and claim nothing until `resume`."""
        return self.ledger / "paused"

    @property
    def skipped(self) -> Path:
        """Present once trials were skipped: what is owned may have ended."""
        return self.ledger / "skipped"

    @property
    def retries(self) -> Path:
        """Published lists of failures that were taken back."""
        return self.ledger / "retries"

    def retry(self, number: int) -> Path:
        """The failures that retry *number* (from 1) took back."""
        return self.retries / f"{number:04d}.json"

    @property
    def archive(self) -> Path:
        """Journals and logs of workers that are gone, folded."""
        return self.ledger / "archive"

    def archive_file(self, number: int) -> Path:
        """Archive *number* (from 1)."""
        return self.archive / f"{number:04d}"

    # -- workers
    @property
    def workers(self) -> Path:
        """One directory a live or not yet folded worker."""
        return self.root / "workers"

    def worker(self, worker: str) -> Path:
        """Directory of *worker*."""
        return self.workers / worker

    def journal(self, worker: str, segment: int) -> Path:
        """Segment (from 1) of the journal of *worker*."""
        return self.worker(worker) / f"journal.{segment}.jsonl"

    def heartbeat(self, worker: str) -> Path:
        """Heartbeat of *worker*."""
        return self.worker(worker) / "heartbeat"

    def log(self, worker: str) -> Path:
        """Output of the trials of *worker*."""
        return self.worker(worker) / "log.txt"

    def reserve(self, worker: str) -> Path:
        """Space that *worker* frees when the disk is full."""
        return self.worker(worker) / "reserve"

    def report_file(self, worker: str) -> Path:
        """Where a command of *worker* writes its metrics, JSON lines."""
        return self.worker(worker) / "report.jsonl"

    def samples(self, worker: str, segment: int) -> Path:
        """Per-sample scores that trials of *worker* reported."""
        return self.root / "samples" / f"{worker}.{segment}.bin"

    # -- checkpoints
    @property
    def checkpoints(self) -> Path:
        """One directory a trial with live checkpoints."""
        return self.root / "checkpoints"

    def checkpoint_dir(self, number: int) -> Path:
        """Checkpoints of trial *number*."""
        return self.checkpoints / f"{number:06d}"

    def checkpoint_slot(self, number: int, attempt: int, worker: str, slot: int) -> Path:
        """Slot 0 or 1 of an attempt at trial *number*."""
        return self.checkpoint_dir(number) / f"a{attempt}-{worker}.{slot}.h5"

    def trial_files(self, number: int, rung: int = 0) -> Path:
        """Directory that a trial may use for files of its own; it persists over attempts of one *rung*.

        Where memory ran out and the batch was halved, what was kept with the larger one is of no use.
        """
        files = self.checkpoint_dir(number) / "files"
        return files / f"halved-{rung}" if rung else files

    # -- the rest
    @property
    def profile(self) -> Path:
        """The profile of the last submission."""
        return self.root / "profile.yaml"

    @property
    def doctor(self) -> Path:
        """What `doctor` found here last."""
        return self.root / "doctor.json"

    @property
    def submitit(self) -> Path:
        """Scripts and logs of submitit's jobs."""
        return self.root / "submitit"

    @property
    def cache(self) -> Path:
        """What reading verbs may keep; can be deleted."""
        return self.root / "cache"

    @property
    def reconciled(self) -> Path:
        """How far the journals are known to be in the index."""
        return self.cache / "reconciled"

    @property
    def queue(self) -> Path:
        """What SLURM last said of the run's jobs, for everybody who watches."""
        return self.cache / "queue.json"

    @property
    def hours(self) -> Path:
        """What the journals say about the time of workers, and how far they were read."""
        return self.cache / "hours.json"

    @property
    def reruns(self) -> Path:
        """Output of `rerun`."""
        return self.root / "reruns"

    @property
    def results(self) -> Path:
        """What `collect` makes; can be deleted."""
        return self.root / "results"

    def result(self, name: str) -> Path:
        """One file of the results; those of one search of several are NAME/FILE."""
        return self.results / name

    @property
    def audit(self) -> Path:
        """The merged journals, made by `collect`."""
        return self.root / "audit.log"

    def audit_fold(self, fold: int) -> Path:
        """Return the lines of audit.log that concern *fold*."""
        return self.root / "audit" / f"fold_{fold:02d}.log"

    @property
    def quarantine(self) -> Path:
        """Damaged files, set aside by `fsck --repair`."""
        return self.root / "quarantine"


def parse_journal(name: str) -> int | None:
    """Return the segment of a journal's file name, None for another name."""
    match = _JOURNAL.fullmatch(name)
    return int(match[1]) if match else None
