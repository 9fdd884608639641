"""FORMAT.md and layout.py name the same files."""

from __future__ import annotations

import re
from pathlib import Path

import hpc_search
from hpc_search.layout import Layout

WORKER = "0123456789abcdef"
ROOT = Path("RUN")
#: Files of layouts that take arguments, with the arguments of the example in FORMAT.md.
EXAMPLES = {
    "split_manifest": (0, "train"),
    "vault_opening": (1,),
    "vault_result": (1,),
    "vault_again": (1, 1),
    "vault_refused": (1, 0),
    "audit_fold": (0,),
    "coarse_lock": ("submit",),
    "seal": (1,),
    "later_plan": (2,),
    "later_search": (2,),
    "later_digests": (2,),
    "later_code": ("01234567",),
    "later_diff": ("01234567",),
    "snapshot_record": (1,),
    "superblock": (0,),
    "superblock_seal": (0, 128),
    "retry": (1,),
    "stage": (1,),
    "stopped_part": (1,),
    "proposal": (0,),
    "proposal_pack": (0, 128),
    "submit_intent": (1,),
    "submit_record": (1,),
    "archive_file": (1,),
    "journal": (WORKER, 1),
    "heartbeat": (WORKER,),
    "log": (WORKER,),
    "reserve": (WORKER,),
    "report_file": (WORKER,),
    "samples": (WORKER, 1),
    "checkpoint_slot": (0, 1, WORKER, 0),
    "trial_files": (0,),
    "result": ("results.csv",),
}
#: Directories that hold nothing but files named otherwise.
CONTAINERS = {
    "splits", "vault", "ledger", "open", "seals", "retries", "stages", "stopped_parts", "proposals",
    "submits", "snapshots", "archive", "workers",
    "worker",
    "checkpoints", "checkpoint_dir", "results", "cache",
}  # fmt: skip


def described() -> set[str]:
    text = Path(hpc_search.__file__).with_name("FORMAT.md").read_text()
    return {match.rstrip("/") for match in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)}


def laid_out() -> set[str]:
    layout = Layout(ROOT)
    found = set()
    for name in dir(Layout):
        if name.startswith("_") or name in {"root", *CONTAINERS}:
            continue
        value = getattr(layout, name)
        path = value(*EXAMPLES[name]) if callable(value) else value
        found.add(path.relative_to(ROOT).as_posix())
    return found


def test_format_describes_exactly_the_files_of_the_layout() -> None:
    assert described() == laid_out()
