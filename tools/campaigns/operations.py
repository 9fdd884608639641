"""The operations whose system calls are broken, and those that make their states.

Each prepares itself and returns what is broken: an action, which may give an exit code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from hpc_search import cli, durable
from hpc_search.checkpoint import Slots, Superseded
from hpc_search.layout import Layout
from hpc_search.ledger import Claimed, Ledger, this_process
from hpc_search.ledger.fold import fold
from hpc_search.ledger.samples import append_scores
from hpc_search.ledger.submits import Answer
from hpc_search.planning import Numbering, load_plan
from hpc_search.records import checked
from hpc_search.records import journal as lines

#: Exit code where something was believed that is not true.
WRONG: Final = 71
#: Environment variable with the argument of an operation.
ARGUMENT: Final = "CAMPAIGNARGUMENT"
SEARCH: Final = """\
name: calls
command: [/bin/sh, trial.sh, "{x}", "{fold}"]
metric: {name: acc, goal: max}
space: {x: [1, 2, 3]}
strategy: grid
data: {index: data.csv, id: sample, label: y}
folds: {stratified: 2}
heartbeat: 1
lease: 30
"""
TRIAL: Final = """echo "{\\"acc\\": 0.$1$2}" > "$HPC_SEARCH_REPORT"\n"""
DATA: Final = "sample,y\n" + "".join(f"s{i},{i % 2}\n" for i in range(8))
Action = Callable[[], int | None]


def say(**fact: Any) -> None:
    """Tell the campaign, at once, what the program now relies on."""
    os.write(1, json.dumps(fact).encode() + b"\n")


def only(function: Callable[[], object]) -> Action:
    """Return *function* as an action without an exit code."""

    def go() -> None:
        function()

    return go


def joined(run: Path) -> Ledger:
    """Join as a new worker and say who it is."""
    layout = Layout(run)
    plan = load_plan(layout)
    ledger = Ledger(layout, plan, Numbering(plan), this_process(), lock_timeout=5.0)
    say(worker=ledger.id)
    return ledger


def claimed(ledger: Ledger, count: int) -> list[Claimed]:
    """Claim, and say what."""
    found = ledger.claim(count)
    for one in found:
        say(claimed=one.trial.number, attempt=one.attempt)
    return found


def end_of(one: Claimed, state: str = "done") -> lines.End:
    """Return the end record that the trial's program would lead to."""
    trial = one.trial
    value = float(f"0.{trial.params['x']}{trial.fold}")
    return lines.End(
        trial=trial.number,
        attempt=one.attempt,
        state=state,  # type: ignore[arg-type]
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        value=value if state == "done" else None,
        metrics={"acc": value} if state == "done" else {},
        seconds=0.5,
    )


def finished(ledger: Ledger, one: Claimed) -> None:
    """Finish, and say what is acknowledged."""
    checksum = ledger.finish(end_of(one))
    say(finished=one.trial.number, end=checksum)


# ------------------------------------------------------------------------------- operations of the ledger


def op_join(run: Path) -> Action:
    """Make a worker directory and open its journal."""
    return only(lambda: joined(run))


def op_claim(run: Path) -> Action:
    """Claim two trials and start the second."""
    ledger = joined(run)

    def go() -> None:
        for one in claimed(ledger, 2)[1:]:
            ledger.start(one, os.getpid(), 0)
        ledger.flush()

    return go


def op_finish(run: Path) -> Action:
    """Report, finish two trials, mark them, claim and finish a third."""
    ledger = joined(run)
    held = claimed(ledger, 2)

    def go() -> None:
        for one in held:
            ledger.start(one, os.getpid(), 0)
            ledger.report(one.trial.number, one.attempt, 1, {"acc": 0.5})
            finished(ledger, one)
        for one in claimed(ledger, 1):
            finished(ledger, one)
        ledger.flush()

    return go


def op_give_back(run: Path) -> Action:
    """Give back one of two trials."""
    ledger = joined(run)
    held = claimed(ledger, 2)
    return lambda: ledger.give_back(held[1:])


def op_beat(run: Path) -> Action:
    """Beat twice while holding two trials."""
    ledger = joined(run)
    claimed(ledger, 2)
    return only(lambda: (ledger.beat(), ledger.beat()))


def op_recover(run: Path) -> Action:
    """Take over what dead workers left."""
    ledger = joined(run)
    return only(ledger.recover)


def op_reconcile(run: Path) -> Action:
    """Compare the index with the journals; make it anew where it is missing."""
    ledger = joined(run)
    return only(ledger.reconcile)


def op_exit(run: Path) -> Action:
    """Leave with a mark that is not written yet."""
    ledger = joined(run)
    finished(ledger, claimed(ledger, 1)[0])
    return lambda: ledger.exit("no work left")


def op_archive(run: Path) -> Action:
    """Fold workers that are gone, and the archive before, into a new archive."""
    layout = Layout(run)
    return lambda: say(folded=fold(layout, this_process(), many=1))


def op_samples(run: Path) -> Action:
    """Append scores of two trials."""
    ledger = joined(run)

    def go() -> None:
        for number in (0, 1):
            append_scores(ledger.layout, ledger.id, number, 1, ["s0", "s1"], [0.25, 0.75])

    return go


# ---------------------------------------------------------------------------- operations of checkpoints


def state_at(step: int) -> dict[str, Any]:
    """Return a state that only *step* can have."""
    return {"weights": np.full(300, float(step)), "small": np.arange(step + 3), "step": step}


def slots_of(ledger: Ledger, one: Claimed) -> Slots:
    """Return the slots of an attempt."""
    return Slots(ledger.layout, ledger.plan.run_id, one.trial.number, one.attempt, ledger.id)


def op_checkpoint(run: Path) -> Action:
    """Resume trial 0 and save three times over both slots."""
    ledger = joined(run)
    ledger.recover()
    one = claimed(ledger, 1)[0]
    slots = slots_of(ledger, one)

    def save() -> None:
        slots.prepare()
        loaded = slots.newest()
        step = 0 if loaded is None else loaded.step
        say(restored=step)
        for _ in range(3):
            step += 1
            say(saved=slots.save(step, state_at(step)).step)

    def go() -> None:
        try:
            save()
        except Superseded as error:
            # What a trial's process does not survive, and its supervisor expects.
            say(superseded=str(error))

    return go


def op_restore(run: Path) -> Action:
    """Restore trial 0 from the attempt before."""
    ledger = joined(run)
    ledger.recover()
    one = claimed(ledger, 1)[0]
    slots = slots_of(ledger, one)

    def go() -> int:
        loaded = slots.newest()
        say(restored=0 if loaded is None else loaded.step, skipped=list(slots.skipped))
        return 0 if loaded is None or is_state_of(loaded.state, loaded.step) else WRONG

    return go


def op_remove(run: Path) -> Action:
    """Remove the checkpoints of trial 0."""
    return lambda: Slots.remove(Layout(run), 0)


def is_state_of(state: dict[str, Any], step: int) -> bool:
    """Return whether *state* is the one of *step*."""
    wanted = state_at(step)
    return all(np.array_equal(state[name], wanted[name]) for name in wanted)


# ------------------------------------------------------------------------------------- whole commands


def command(*arguments: str) -> Callable[[Path], Action]:
    """Return the operation of a command line; RUN stands for the run, CONFIG for the search file."""

    def operation(run: Path) -> Action:
        names = {"RUN": str(run), "CONFIG": str(run.parent / "search.yaml")}
        return lambda: cli.main([names.get(word, word) for word in arguments])

    return operation


# ------------------------------------------------------------------------- what states are made with


def op_die(run: Path) -> Action:
    """Claim two trials (or one), save checkpoints, end the second durably without a mark, and die."""
    ledger = joined(run)

    def go() -> None:
        ledger.beat()
        held = claimed(ledger, 2)
        slots = slots_of(ledger, held[0])
        slots.prepare()
        for step in (1, 2):
            say(saved=slots.save(step, state_at(step)).step)
        for one in held[1:]:
            finished(ledger, one)

    return go


def op_drop_index(run: Path) -> Action:
    """Remove the index."""
    return lambda: Layout(run).claims.unlink(missing_ok=True)


def op_declare_gone(run: Path) -> Action:
    """Publish that the scheduler does not know the job of the worker in the argument any more."""
    worker = os.environ[ARGUMENT]
    answer = Answer(number=1, token="gone", launcher="slurm", tasks=1, gone=(worker,), outcome="sent")
    return only(lambda: durable.publish(Layout(run).submit_record(1), checked.encode(answer)))


def op_write(run: Path) -> Action:
    """Write the search and its data."""

    return lambda: write(run.parent)


def write(directory: Path) -> None:
    """Write the search into *directory*."""
    for name, text in {"search.yaml": SEARCH, "trial.sh": TRIAL, "data.csv": DATA}.items():
        (directory / name).write_text(text)


OPERATIONS: Final[dict[str, Callable[[Path], Action]]] = {
    **{
        name[3:].replace("_", "-"): value for name, value in list(globals().items()) if name.startswith("op_")
    },
    # Where two claim at once, each has its own words.
    "claim-too": op_claim,
    "plan": command("plan", "CONFIG", "--run", "RUN"),
    "work": command("work", "RUN"),
    "work1": command("work", "RUN", "--trials", "1"),
    "collect": command("collect", "RUN"),
    "submit": command("submit", "RUN", "--launcher", "local", "--workers", "1"),
    "submit-wait": command("submit", "RUN", "--launcher", "local", "--workers", "1", "--wait"),
    "cancel": command("cancel", "RUN"),
    "repair": command("fsck", "RUN", "--repair"),
}
