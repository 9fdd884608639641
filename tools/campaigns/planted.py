"""Bugs planted into a copy of hpc_search: each must be caught by a campaign that finds nothing without it."""

from __future__ import annotations

import argparse
import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hpc_search
from tools.campaigns.common import Tally

HELP: Final = "bugs planted into a copy of hpc_search, each of which a campaign must catch"


@dataclass(frozen=True, slots=True)
class Bug:
    """*edits* (file, text, other text) make it; *campaign* with *arguments* must see it and say *words*."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    campaign: str
    arguments: tuple[str, ...]
    words: str


_PUBLISHED: Final = "    if not durable.publish(layout.archive_file(number)"
_REMOVED: Final = "    for worker in folded:\n        _remove(layout, worker)\n"
BUGS: Final = (
    Bug(
        "rename without fsync",
        (
            (
                "durable.py",
                "            write_all(fd, data)\n            os.fsync(fd)\n",
                "            write_all(fd, data)\n",
            ),
        ),
        "syscalls",
        ("--operations", "collect", "archive", "--names", "link"),
        "before its fsync",
    ),
    Bug(
        "a name whose directory is not synced",
        (
            (
                "durable.py",
                "        fsync_dir(path.parent)\n\n\ndef replace_file",
                "        pass\n\n\ndef replace_file",
            ),
        ),
        "syscalls",
        ("--operations", "collect", "--names", "link"),
        "has no durable name",
    ),
    Bug(
        "a claim without the lock",
        (
            (
                "locks.py",
                "        if self._try():\n            return\n        deadline",
                "        return\n        deadline",
            ),
        ),
        "races",
        ("--operations", "claim", "--names", "pread64", "pwrite64"),
        "claimed by two workers",
    ),
    Bug(
        "a slot shared by two attempts",
        (("layout.py", 'f"a{attempt}-{worker}.{slot}.h5"', "f\"a1-{'0' * 16}.{slot}.h5\""),),
        "zombies",
        ("--operations", "checkpoint", "--names", "rename"),
        "checkpoint",
    ),
    Bug(
        "a late result that replaces a sealed one",
        (
            ("ledger/history.py", "    if sealed is not None:\n", "    if sealed == '':\n"),
            (
                "ledger/history.py",
                "            return min(candidates, key=_order)\n",
                "            continue\n",
            ),
        ),
        "zombies",
        ("--operations", "finish", "--names", "write", "fdatasync"),
        "sealed result",
    ),
    Bug(
        "an end that is acknowledged before its fsync",
        (
            (
                "ledger/claims.py",
                "return\n        self.journal.sync()\n        written",
                "return\n        written",
            ),
        ),
        "syscalls",
        ("--operations", "finish", "--names", "openat"),
        "before",
    ),
    Bug(
        "a failed fsync that is believed",
        (
            (
                "ledger/journal.py",
                "the kernel may have dropped the pages.\n            self._abandon(error)\n",
                "the kernel may have dropped the pages.\n            del error\n",
            ),
        ),
        "injected",
        ("--operations", "finish", "--errors", "EIO", "--names", "fdatasync"),
        "before its fsync",
    ),
    Bug(
        "journals removed before their archive is published",
        (
            (
                "ledger/fold.py",
                _PUBLISHED,
                _REMOVED + _PUBLISHED,
            ),
        ),
        "syscalls",
        ("--operations", "archive", "--names", "link"),
        "lost or changed results",
    ),
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    names = ", ".join(f"{number}: {bug.name}" for number, bug in enumerate(BUGS))
    parser.add_argument("--bugs", nargs="+", type=int, choices=range(len(BUGS)), metavar="N", help=names)


def run(args: argparse.Namespace) -> Tally:
    """Plant each chosen bug and let its campaign look for it, with and without."""
    tally = Tally()
    for number in args.bugs if args.bugs is not None else range(len(BUGS)):
        tally.counts["bugs planted"] += 1
        _hunt(BUGS[number], args, args.directory / f"bug{number}", tally)
    return tally


def planted(bug: Bug, directory: Path) -> Path:
    """Return a directory with a copy of hpc_search that has *bug*.

    Raises:
        ValueError: The text that the bug replaces does not stand there once.
    """
    source = Path(hpc_search.__file__).parent
    target = directory / "planted"
    shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text, other in bug.edits:
        path = target / source.name / name
        content = path.read_text()
        if content.count(text) != 1:
            raise ValueError(f"{bug.name}: {name} has {content.count(text)} times, not once: {text!r}")
        path.write_text(content.replace(text, other))
    return target


def _hunt(bug: Bug, args: argparse.Namespace, directory: Path, tally: Tally) -> None:
    try:
        package = planted(bug, directory)
    except ValueError as error:
        tally.problems.append(str(error))
        return
    sound = _campaign(bug, args, directory / "without", None)
    found = _campaign(bug, args, directory / "with", package)
    caught = [problem for problem in found.problems if bug.words in problem]
    if any(bug.words in problem for problem in sound.problems):
        tally.problems.append(f"{bug.campaign} finds {bug.name!r} without the bug: {sound.problems}")
    elif caught:
        tally.counts["bugs caught"] += 1
        print(f"caught by {bug.campaign}: {bug.name}\n    {caught[0]}", flush=True)
    else:
        words = f"{bug.campaign} {' '.join(bug.arguments)} does not find {bug.name!r}"
        tally.problems.append(f"{words}; it found {found.problems}")


def _campaign(bug: Bug, args: argparse.Namespace, directory: Path, package: Path | None) -> Tally:
    module: Any = importlib.import_module(f"tools.campaigns.{bug.campaign}")
    parser = argparse.ArgumentParser()
    module.options(parser)
    given = parser.parse_args([*bug.arguments, *(["--package", str(package)] if package is not None else [])])
    given.seed, given.directory = args.seed, directory
    tally: Tally = module.run(given)
    return tally
