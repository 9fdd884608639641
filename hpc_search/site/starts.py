"""Why tasks of a submission did not start: what their logs say and, where there is none, what SLURM says."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from hpc_search.layout import Layout
from hpc_search.site.client import ask

#: What a task that cannot start says in its log, before its node and why.
CANNOT_START: Final = "hpc_search: this task cannot start on "
_LINE: Final = re.compile(re.escape(CANNOT_START.encode()) + rb"([^\s:]+): ([^\n]+)")
#: Bytes of a log's end that are read, and logs at most: a reason that all tasks share is in each of them.
_TAIL: Final = 4096
_MOST: Final = 200
#: What squeue, for some minutes, and then sacct say of a task whose output file could not be opened.
_NO_OUTPUT: Final = re.compile(r"([^|]+)\|(?:JobLaunchFailure|0:53)")


def troubles(layout: Layout, gone: Collection[str], token: str = "") -> list[str]:
    """Return sentences on tasks that could not start: how many, where, why.

    Logs of *token*, else of all, are read, as far as they are not folded; SLURM is asked about those of
    the tokens *gone* that left no log at all.
    """
    try:
        names = sorted(os.listdir(layout.submitit))
    except FileNotFoundError:
        return []
    # What was folded is in a log without a task's number.
    logs = [name for name in names if name.endswith(".log") and (f"{token}_" if token else "_") in name]
    nodes: dict[str, list[str]] = {}
    for name in logs[-_MOST:]:
        for node, why in _LINE.findall(_tail(layout.submitit / name)):
            nodes.setdefault(why.decode(errors="replace"), []).append(node.decode(errors="replace"))
    found = [_sentence(why, on) for why, on in nodes.items()]
    logged = {name.rpartition("_")[0] for name in logs}
    silent = [token for token in gone if f"{token}.sh" in names and token not in logged]
    return [*found, *_silent(layout, silent)]


def _sentence(why: str, nodes: list[str]) -> str:
    tasks = "1 task" if len(nodes) == 1 else f"{len(nodes)} tasks"
    return f"{tasks} could not start on {', '.join(sorted(set(nodes)))}: {why}"


def _silent(layout: Layout, tokens: Collection[str]) -> list[str]:
    """Return what SLURM says of the jobs *tokens*, none of which left a log."""
    if not tokens:
        return []
    names = f"--name={','.join(tokens)}"
    told = ask(["squeue", "--me", "-h", "-r", "-t", "all", names, "-o", "%N|%r"]) or ""
    if not told.strip():
        told = ask(["sacct", "-X", "-n", "-P", names, "-S", "now-2days", "-o", "NodeList,ExitCode"]) or ""
    nodes = [match[1] for match in map(_NO_OUTPUT.fullmatch, told.splitlines()) if match]
    why = f"their logs cannot be written to {layout.submitit}: is it on a file system that the nodes have?"
    return [_sentence(why, nodes)] if nodes else []


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            return file.read(_TAIL)
    except OSError:
        return b""
