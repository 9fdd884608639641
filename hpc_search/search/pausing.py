"""Pausing a run and letting it go on."""

from __future__ import annotations

import getpass
import socket
import time

from hpc_search import durable
from hpc_search.errors import TemporaryError
from hpc_search.ledger import paused
from hpc_search.search.launch import Wish, mark, pending, submit
from hpc_search.search.runs import Run


def pause(run: Run, reason: str = "") -> str:
    """Let running trials save and be given back, and nothing be claimed; return what was done."""
    from hpc_search.launchers import pausing

    before = paused(run.layout)
    words = f"{signature('paused', reason)}\n".encode()
    told = pausing.pause(run.layout, mark(run), lambda: durable.publish(run.layout.paused, words))
    first = f"already {before}" if before else "paused"
    parts = [f"{first}: {_count(told.running, 'worker')} told to save and end"]
    parts += [f"{_count(told.waiting, 'waiting task')} held"] if told.waiting else []
    parts += [told.problem] if told.problem else []
    return f"{'; '.join(parts)}\n`hpc-search resume {run.typed}` goes on"


def resume(run: Run) -> str:
    """Let a paused run go on: remove the mark, release what is held, start the workers that are missing.

    Raises:
        TemporaryError: SLURM does not answer; what was done stays done, and the same command does the rest.
    """
    from hpc_search.launchers import pausing
    from hpc_search.ledger.submits import submissions

    words = paused(run.layout)
    run.layout.paused.unlink(missing_ok=True)
    durable.fsync_dir(run.layout.ledger)
    told = pausing.release(run.layout, mark(run))
    if told.problem:
        goes_on = "the run is no longer paused" if words else "the run is not paused"
        raise TemporaryError(f"{goes_on}, but {told.problem}", hint="the same command again later")
    released = f"{_count(told.waiting, 'held task')} released" if told.waiting else ""
    if not words and not released:
        return f"not paused; `hpc-search submit {run.typed}` starts the workers that are missing"
    known = submissions(run.layout)
    if not known:
        return f"no longer paused; `hpc-search submit {run.typed}` starts workers"
    last = known[-1]
    # On SLURM those of all profiles.
    workers = last.wanted or None if last.launcher == "local" else None
    wishes = (
        Wish(launcher=last.launcher, workers=workers, folds=folds)
        for folds in dict.fromkeys(one.folds for one in known)
    )
    sent = [submit(run, wish).outcome.text for wish in wishes if not wish.folds or pending(run, wish.folds)]
    return "; ".join(filter(None, ["no longer paused" if words else "", released, *sent]))


def closed(run: Run) -> str:
    """Return why no worker shall start now and what lets it, "" where it may."""
    words = paused(run.layout)
    return f"the run is {words}; `hpc-search resume {run.typed}` goes on" if words else ""


def signature(done: str, reason: str) -> str:
    """Return one line that says what was *done* by whom, where, when and why."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    why = " ".join(reason.split())
    return f"{done} by {user} on {socket.gethostname()} at {when}" + (f": {why}" if why else "")


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
