"""Submitting, waiting, cancelling."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpc_search.errors import EXIT_DONE, EXIT_FAILED, DamagedError, HpcSearchError
from hpc_search.ledger import IndexDamagedError, left, paused, used_up
from hpc_search.ledger.gates import Gates, start_parts
from hpc_search.planning import load_instance
from hpc_search.search.runs import Run
from hpc_search.site import starts
from hpc_search.steering import stages

if TYPE_CHECKING:
    from hpc_search.config.profile import Profile
    from hpc_search.launchers.base import Launcher, Waited
    from hpc_search.launchers.submission import Order, Outcome
    from hpc_search.status import Status


@dataclass(frozen=True, slots=True)
class Wish:
    """What `submit` was asked for."""

    launcher: str = ""
    profile: Path | None = None
    assignments: tuple[str, ...] = ()
    workers: int | None = None
    force: bool = False
    #: Folds whose trials alone shall be worked on, () for all.
    folds: tuple[int, ...] = ()


class Sent(NamedTuple):
    """A submission, the launcher that can wait for it, and the folds that it is for.

    ``failed`` counts the failures with which the search had ended already: then nothing was started.
    """

    outcome: Outcome
    launcher: Launcher
    folds: tuple[int, ...] = ()
    failed: int = 0


class Ended(NamedTuple):
    """How a wait ended: the exit code, and words where something is left or failed."""

    code: int
    text: str


def launcher_named(name: str) -> Launcher:
    """Return the launcher *name*: slurm, local, or "" for slurm where sbatch is on PATH, else local."""
    from hpc_search.launchers import local, slurm

    if name == "slurm" or (not name and shutil.which("sbatch")):
        return slurm.SlurmLauncher()
    return local.LocalLauncher()


def _profile(run: Run, wish: Wish) -> Profile:
    """Return the profile that was given, else the one of the run's last submission, else the defaults."""
    from hpc_search.config import profile

    path = wish.profile or (run.layout.profile if run.layout.profile.exists() else None)
    last = _last(run) if path is None else None
    if path and not wish.profile and not profile.signature_holds(path.read_bytes()):
        message = f"{path} is not what the last `submit` wrote"
        raise DamagedError(message, hint="say which profile is meant: submit RUN --profile FILE")
    found = profile.load_profile(path) if path else last or profile.Profile(name="default")
    workers = [f"workers={wish.workers}"] if wish.workers is not None else []
    return profile.profile_with(found, [*workers, *wish.assignments])


def _last(run: Run) -> Profile | None:
    """Return the profile of the last submission to SLURM, None where there was none."""
    from hpc_search.ledger import submits

    known = submits.marked(submits.submissions(run.layout), mark(run))
    sent = [one for one in known if isinstance(one, submits.Answer) and one.launcher == "slurm"]
    found = [one.profile for one in sent if one.outcome != "refused"]
    return found[-1] if found else None


def _say(line: str) -> None:
    sys.stderr.write(f"hpc-search: {line}\n")


def _order(run: Run, wish: Wish, pending: int) -> Order:
    from hpc_search.launchers.submission import Order

    profile = _profile(run, wish)
    said = any(text.partition("=")[0].strip() == "workers" for text in wish.assignments)
    return Order(
        layout=run.layout,
        plan=run.plan,
        launcher=launcher_named(wish.launcher),
        profile=profile,
        pending=pending,
        workers=profile.workers if said else wish.workers,
        chdir=load_instance(run.layout).origin,
        mark=mark(run),
        say=_say,
        avoid=not any(text.startswith("exclude=") for text in wish.assignments),
        folds=wish.folds,
    )


def _others(run: Run, wish: Wish, order: Order) -> list[Order]:
    """Return orders for what the run's other profiles want as well; none where one profile was spoken of."""
    from hpc_search.ledger import submits

    if wish.profile or wish.assignments or wish.workers is not None or order.pending <= 0:
        return []
    known = submits.marked(submits.submissions(run.layout), mark(run))
    kinds = {one.kind for one in known if one.launcher == "slurm" == order.launcher.name}
    others = [kind for kind in sorted(kinds - {order.kind}) if kind.folds == order.folds]
    lasts = [submits.last_of(known, kind) for kind in others]
    return [
        replace(order, profile=last.profile, workers=last.wanted)
        for last in lasts
        if last is not None and last.wanted
    ]


def pending(run: Run, folds: Sequence[int] = ()) -> int:
    """Return how many trials, of *folds* where there are some, may run now, or do, by the index.

    All of the plan where it cannot be read.
    """
    try:
        return left(run.layout, run.plan, folds)
    except IndexDamagedError:
        return run.plan.trials


def preview(run: Run, wish: Wish) -> str:
    """Return what `submit` would hand to the launcher; changes nothing."""
    from hpc_search.launchers import submission

    return submission.preview(_order(run, wish, pending(run, wish.folds)))


def submit(run: Run, wish: Wish) -> Sent:
    """Start the workers that are missing; a stop mark of an earlier failure is removed first.

    Raises:
        UsageError: A wrong profile, no such launcher here, or SLURM refused for good (RefusedError).
        TemporaryError: The scheduler does not answer.
    """
    from hpc_search import durable
    from hpc_search.config.profile import signed_profile
    from hpc_search.launchers import submission

    _open_stages(run)
    order = _order(run, wish, pending(run, wish.folds))
    if order.pending > 0 and (words := _nothing_left(run)):
        return Sent(submission.Outcome(0, 0, words), order.launcher)
    if not wish.force and order.pending > 0:
        from hpc_search.search import room

        room.check(run.path, order.pending, min(order.asked, order.pending))
    if order.pending > 0:
        submission.refuse_paused(run.layout)
        run.layout.stop.unlink(missing_ok=True)
    outcome = submission.submit(order)
    for other in _others(run, wish, order):
        more = submission.submit(other)
        outcome = replace(
            outcome,
            sent=outcome.sent + more.sent,
            live=outcome.live + more.live,
            text=f"{outcome.text}\nprofile {other.profile.name}: {more.text}",
            tokens=tuple(dict.fromkeys((*outcome.tokens, *more.tokens))),
        )
    failed = counted(run).failed if order.pending <= 0 else 0
    if failed:
        words = f"{outcome.text}; {failed} failed: `hpc-search status {run.typed}` says why"
        words += f", `hpc-search retry {run.typed}` lets them run again"
        words += ". The run keeps its code: `submit --resnapshot` takes corrected code"
        outcome = replace(outcome, text=words)
    if outcome.changed and order.launcher.name == "slurm":
        durable.replace(run.layout.profile, signed_profile(order.profile))
    return Sent(outcome, order.launcher, wish.folds, failed)


def _open_stages(run: Run) -> None:
    """Let searches that stopped by themselves go on, and open the stages whose time has come."""
    if paused(run.layout):
        return
    start_parts(run.layout)
    with suppress(IndexDamagedError):
        stages.advance(run.layout, run.plan, Gates(run.layout, run.plan))


def _nothing_left(run: Run) -> str:
    """Return why nothing is started where the search's budget is used up, "" where it is not."""
    from hpc_search import durable
    from hpc_search.status.budget import Meter

    words = Meter(run.layout, run.plan).look().over
    if words:
        durable.publish(run.layout.stop, f"{words}\n".encode())
        words = f"nothing started: {_budget(run, words)}"
    return words


def _budget(run: Run, words: str) -> str:
    seen = counted(run)
    ended = f"{seen.finished:,} of {seen.trials:,} trials have ended"
    go_on = f"a larger `budget` and `hpc-search plan CONFIG --run {run.typed} --amend` let it go on"
    return f"{words}; {ended}; `hpc-search collect {run.typed}` shows the best; {go_on}"


def refill(run: Run, token: str, done: int, *, refused: bool = False, stays: bool = False) -> int:
    """Send the workers that are missing as a task of *token* ends after *done* trials; return how many.

    It may also stay: where a stage has opened, there is work for more.
    """
    from hpc_search.launchers import refill as of_workers
    from hpc_search.launchers.slurm import SlurmLauncher

    if paused(run.layout):
        return 0
    try:
        place = load_instance(run.layout).origin
        ending = of_workers.Ending(token, mark(run), place, done, refused=refused, stays=stays)
        return of_workers.refill(run.layout, run.plan, ending, SlurmLauncher())
    except (HpcSearchError, OSError) as error:
        # The worker has ended well; whoever ends next, or a person, sends them.
        _say(f"missing workers were not sent: {error}")
        return 0


def mark(run: Run) -> str:
    """Return what is in the names of all jobs of the run."""
    return load_instance(run.layout).mark or run.plan.run_id[-8:]


def status(run: Run) -> Status:
    """Return the status of *run* now, SLURM's queue included where it was submitted there."""
    from hpc_search.status import Watcher

    return Watcher(run.layout, run.plan).look()


def counted(run: Run) -> Status:
    """Return the status of *run* from its files alone: SLURM is not asked."""
    from hpc_search.status import read_status

    return read_status(run.layout, run.plan)


def wait(run: Run, sent: Sent) -> Ended:
    """Stay until the work ends, with a progress bar; return the exit code and what to say."""
    from hpc_search.launchers import submission
    from hpc_search.progress import Progress
    from hpc_search.status import Watcher

    mine = mark(run)
    # The launcher asks SLURM while it waits.
    watcher = Watcher(run.layout, run.plan, ask=False)
    with Progress() as progress:

        def tick() -> None:
            progress.update(watcher.look())

        def tokens() -> Sequence[str]:
            # Workers that end may have sent others.
            return [*sent.outcome.tokens, *submission.tokens(run.layout, sent.launcher.name, mine)]

        waited = sent.launcher.wait(tokens, tick, lambda: pending(run, sent.folds))
    if waited.signal and sent.launcher.name == "slurm":
        words = f"no longer waiting; the jobs go on. `hpc-search cancel {run.typed}` ends them"
        return Ended(128 + waited.signal, words)
    return _ended(run, sent, waited)


def _ended(run: Run, sent: Sent, waited: Waited) -> Ended:
    seen = counted(run)
    if waited.signal:
        return Ended(128 + waited.signal, f"stopped; `hpc-search submit {run.typed}` goes on where it was")
    rows = []
    if seen.left and (words := used_up(run.layout)):
        return Ended(EXIT_FAILED if seen.failed else EXIT_DONE, _budget(run, words))
    if seen.left and seen.stopped is not None:
        rows = [f"stopped: {seen.stopped}", f"{_trials(seen.left)} left"]
    elif seen.left and paused(run.layout):
        rows = [f"{paused(run.layout)}; {_trials(seen.left)} left; `hpc-search resume {run.typed}` goes on"]
    elif seen.left and sent.folds and not pending(run, sent.folds):
        return Ended(EXIT_FAILED if seen.failed else EXIT_DONE, _rest(run, seen, sent.folds))
    elif seen.left:
        rows = [
            f"worker {words.replace(': ', ' ended with ', 1)}; logs: {run.layout.submitit}"
            for words in waited.lost
        ]
        rows += starts.troubles(run.layout, sent.outcome.tokens if sent.launcher.name == "slurm" else ())
        rows.append(f"{_trials(seen.left)} left; `hpc-search submit {run.typed}` goes on")
    elif seen.failed:
        why = f"`hpc-search status {run.typed}` says why"
        rows.append(f"{seen.failed} of {seen.trials} trials failed; {why}")
    if seen.closed and not seen.left:
        rows.append(f"{seen.closed} were not run: their search stopped")
    return Ended(EXIT_FAILED if rows else EXIT_DONE, "\n".join(rows))


def _rest(run: Run, seen: Status, folds: Sequence[int]) -> str:
    """Return that *folds* are done, what is left of others, and what does that."""
    failed = f", {seen.failed} trials of the run failed" if seen.failed else ""
    done = f"folds {' '.join(map(str, folds))} have ended{failed}; {_trials(seen.left)} left of other folds"
    return f"{done}; `hpc-search submit {run.typed}` does the rest"


def after_work(run: Run, folds: Sequence[int] = ()) -> str:
    """Return one line on what is done and, where something is left, the next command."""
    from hpc_search.progress import line

    seen = counted(run)
    if folds and seen.left and not pending(run, folds):
        return f"{line(seen)}; {_rest(run, seen, folds)}"
    words = used_up(run.layout) if seen.left else ""
    more = f"; `hpc-search submit {run.typed}` goes on where it was" if seen.left else ""
    more = f"; {_budget(run, words)}" if words else more
    return f"{line(seen)}{more}"


def _trials(count: int) -> str:
    return "1 trial is" if count == 1 else f"{count} trials are"


def cancel(run: Run) -> str:
    """End the workers of the run, by their tokens; return one sentence.

    Raises:
        TemporaryError: The scheduler does not answer.
    """
    from hpc_search.launchers import local, slurm, submission
    from hpc_search.ledger import submits

    mine = mark(run)
    known = {one.launcher for one in submits.marked(submits.submissions(run.layout), mine)}
    launchers: list[Launcher] = []
    if "local" in known:
        launchers.append(local.LocalLauncher())
    if "slurm" in known:
        launchers.append(slurm.SlurmLauncher())
    ended = sum(submission.cancel(run.layout, launcher, mine) for launcher in launchers)
    after = submits.marked(submits.submissions(run.layout), mine)
    unsure = [one.token for one in after if not isinstance(one, submits.Answer)]
    more = f"; {', '.join(unsure)} may still be on its way: the same command again ends it" if unsure else ""
    if not ended:
        return f"no worker of this run is live; nothing to cancel{more}"
    workers = "1 worker was" if ended == 1 else f"{ended} workers were"
    return f"{workers} told to end; `hpc-search submit {run.typed}` goes on where they stopped{more}"


def watch(run: Run) -> int:
    """Show the status again and again until somebody quits or the search ends; return the exit code."""
    from hpc_search.progress.watch import watch as show
    from hpc_search.status import Watcher

    watcher = Watcher(run.layout, run.plan)
    ended_by = show(watcher.look, run.typed)
    return 128 + ended_by if ended_by else EXIT_DONE
