"""What must hold of a run after a campaign: held against the undisturbed run, from the journals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import history
from hpc_search.records import journal as lines
from tools.campaigns.audits import audit_problems

#: Files of a run at most, whatever was done to it (invariant I8).
MOST_FILES: Final = 1000
#: Wall-clock stamps of journals are cut to milliseconds.
_STAMP: Final = 0.005
#: Problems of one kind that are listed; more are counted.
_LISTED: Final = 5
_KINDS: Final = frozenset({b"claim", b"start", b"report", b"end", b"accepted", b"note"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The accepted result of a trial, every number as text that reads back to the same bits."""

    state: str
    value: str
    metrics: str
    params: str


Reports = Mapping[int, Mapping[int, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a run says: the result of every finished trial, and its reports as trial -> step -> values."""

    results: Mapping[int, Outcome]
    reports: Reports


@dataclass(slots=True)
class Facts:
    """The records of a run that the checks look at."""

    claims: list[lines.Claim] = field(default_factory=list)
    starts: list[lines.Start] = field(default_factory=list)
    ends: list[tuple[str, str, lines.End]] = field(default_factory=list)
    reports: list[lines.Report] = field(default_factory=list)
    accepted: dict[int, dict[str, list[lines.Accepted]]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def exact(value: object) -> str:
    """Return *value* as JSON with sorted keys; a float is written so that it reads back to the same bits."""
    return json.dumps(value, sort_keys=True)


def facts_of(layout: Layout) -> Facts:
    """Return the records of all journals of the run at *layout*."""
    facts = Facts(accepted=defaultdict(lambda: defaultdict(list)))
    for line in history.lines(layout, _KINDS):
        record = lines.parse_line(line.data)
        if isinstance(record, lines.Claim):
            facts.claims.append(record)
        elif isinstance(record, lines.Start):
            facts.starts.append(record)
        elif isinstance(record, lines.Report):
            facts.reports.append(record)
        elif isinstance(record, lines.End):
            facts.ends.append((line.worker, line.data[-18:-2].decode(), record))
        elif isinstance(record, lines.Accepted):
            facts.accepted[record.trial][record.end].append(record)
        elif isinstance(record, lines.Note):
            facts.notes[record.event] += 1
    return facts


def outcomes(layout: Layout, facts: Facts | None = None) -> Outcomes:
    """Return results and reports of the run at *layout*."""
    facts = facts or facts_of(layout)
    reports: defaultdict[int, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for report in facts.reports:
        reports[report.trial][report.step].add(exact(report.metrics))
    return Outcomes(
        results={trial: _outcome(found.end) for trial, found in history.results(layout).items()},
        reports={n: {step: frozenset(told) for step, told in steps.items()} for n, steps in reports.items()},
    )


def _outcome(end: lines.End) -> Outcome:
    return Outcome(end.state, exact(end.value), exact(end.metrics), exact({**end.params, **end.effective}))


def broken_promises(
    layout: Layout, ends: Mapping[str, int], steps: Mapping[int, int], *, checkpoints: bool
) -> list[str]:
    """Return the end records (checksum -> trial) that no journal has, and the checkpoints that are gone.

    *steps* is trial -> step of a save that returned; that or a later one must load until the trial has ended.
    It is looked at only where *checkpoints* is true, for no save runs at the moment.
    """
    there = {checksum for _, checksum, _ in facts_of(layout).ends}
    lost = [f"trial {trial}: end record {end} is lost" for end, trial in ends.items() if end not in there]
    finished = history.results(layout)
    if checkpoints:
        for trial, step in steps.items():
            found = newest_step(layout, trial)
            if trial not in finished and found < step:
                lost.append(f"trial {trial}: the checkpoint of step {step} was durable, step {found} is left")
    return _some(lost, "durable records that are lost")


def newest_step(layout: Layout, trial: int) -> int:
    """Return the step of the newest checkpoint of *trial* that verifies, 0 where there is none."""
    from hpc_search import checkpoint
    from hpc_search.planning import load_plan

    run_id = load_plan(layout).run_id
    loaded = checkpoint.Slots(layout, run_id, trial, 2**31, "0" * 16).newest()
    return loaded.step if loaded is not None else 0


class Witness:
    """Looks at a run while it is disturbed: a result once accepted must be the result for good."""

    def __init__(self, layout: Layout) -> None:
        """Watch the run at *layout*."""
        self._layout = layout
        self.seen: dict[int, str] = {}
        self.problems: list[str] = []

    def sample(self) -> None:
        """Read the results; note those that are accepted, and those that differ from an earlier look."""
        accepted = {record.trial for record in _accepted(self._layout)} | set(history.seals(self._layout))
        found = history.results(self._layout)
        for trial, checksum in self.seen.items():
            now = found[trial].checksum if trial in found else "nothing"
            if now != checksum:
                self.problems.append(f"trial {trial}: the accepted result {checksum} became {now}")
        self.seen |= {trial: found[trial].checksum for trial in accepted if trial in found}


def _accepted(layout: Layout) -> list[lines.Accepted]:
    found = (lines.parse_line(line.data) for line in history.lines(layout, frozenset({b"accepted"})))
    return [record for record in found if isinstance(record, lines.Accepted)]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a campaign's faults excuse.

    ``stamps`` says that the stamps of the journals are of one clock and no process was stopped, so that
    a claim after a durable end is seen. ``reports_lost`` allows missing reports: they are not fsynced.
    ``temporaries`` is how many temporary files killed processes may have left. ``locks_lie`` allows that two
    workers accept their results of one trial; what is the result must not change all the same.
    """

    stamps: bool = True
    reports_lost: bool = False
    temporaries: int = 0
    locks_lie: bool = False


def verdict(run: Path, reference: Outcomes, rules: Rules = Rules()) -> list[str]:
    """Return what is wrong with the finished *run*; nothing where it equals the undisturbed *reference*."""
    layout = Layout(run)
    facts = facts_of(layout)
    found = outcomes(layout, facts)
    before = history.results(layout)
    return [
        *_lost(found, reference),
        *_changed(found, reference),
        *_reports(found.reports, reference.reports, rules),
        *(_again(facts) if rules.stamps else []),
        *_commands(run, len(reference.results)),
        # Now that they are published they must still be the same.
        *_contradictions(layout, facts, before, rules),
        *audit_problems(layout),
        *_files(run, rules),
    ]


def _some(problems: Sequence[str], what: str) -> list[str]:
    rest = len(problems) - _LISTED
    return [*problems[:_LISTED], *([f"... and {rest} more: {what}"] if rest > 0 else [])]


def _lost(found: Outcomes, reference: Outcomes) -> list[str]:
    missing = sorted(set(reference.results) - set(found.results))
    extra = sorted(set(found.results) - set(reference.results))
    return [
        *_some([f"trial {trial}: lost, it has no result" for trial in missing], "lost"),
        *_some([f"trial {trial}: a result of a trial that is not planned" for trial in extra], "not planned"),
    ]


def _changed(found: Outcomes, reference: Outcomes) -> list[str]:
    both = sorted(set(found.results) & set(reference.results))
    differ = [
        f"trial {trial}: {found.results[trial]}, undisturbed {reference.results[trial]}"
        for trial in both
        if found.results[trial] != reference.results[trial]
    ]
    return _some(differ, "results that differ from the undisturbed run")


def _reports(found: Reports, reference: Reports, rules: Rules) -> list[str]:
    wrong = []
    for trial, steps in reference.items():
        for step, values in steps.items():
            told = found.get(trial, {}).get(step, frozenset())
            if told != values and not (rules.reports_lost and not told):
                wrong.append(
                    f"trial {trial}, step {step}: reported {sorted(told)}, expected {sorted(values)}"
                )
    return _some(wrong, "reports that differ or are missing")


def missing_reports(found: Reports, reference: Reports) -> int:
    """Return how many reports of the undisturbed run are in no journal."""
    return sum(step not in found.get(trial, {}) for trial, steps in reference.items() for step in steps)


def _contradictions(
    layout: Layout, facts: Facts, before: Mapping[int, history.Result], rules: Rules
) -> list[str]:
    """Return the trials for which two end records were accepted, or another one than the result.

    *before* are the results before they were published.
    """
    results, sealed = history.results(layout), history.seals(layout)
    wrong = [f"trial {n}: publishing changed its result" for n in before if before[n] != results.get(n)]
    for trial, winners in facts.accepted.items():
        if len(winners) > 1 and not rules.locks_lie:
            wrong.append(f"trial {trial}: accepted {len(winners)} end records: {sorted(winners)}")
        if trial in results and results[trial].checksum not in winners:
            wrong.append(
                f"trial {trial}: accepted {sorted(winners)}, the result is {results[trial].checksum}"
            )
    for trial, checksum in sealed.items():
        if trial not in results or results[trial].checksum != checksum:
            wrong.append(f"trial {trial}: sealed as {checksum}, which is not its result")
    wrong += [f"trial {trial}: its result was not published" for trial in results if trial not in sealed]
    return _some(wrong, "contradictions")


def _again(facts: Facts) -> list[str]:
    """Return the trials that were claimed after an end record of theirs was written."""
    ended: dict[int, float] = {}
    for _, _, end in facts.ends:
        if end.state in lines.FINAL:
            ended[end.trial] = min(end.t, ended.get(end.trial, end.t))
    late = [
        f"trial {claim.trial}: attempt {claim.attempt} {claim.t - ended[claim.trial]:.3f} s after its end"
        for claim in facts.claims
        if claim.trial in ended and claim.t > ended[claim.trial] + _STAMP
    ]
    return _some(late, "finished trials that were claimed again")


def duplicates(facts: Facts) -> int:
    """Return how many attempts ended with a final state beyond the first of each trial."""
    finals = Counter(end.trial for _, _, end in facts.ends if end.state in lines.FINAL)
    return sum(finals.values()) - len(finals)


def attempts(facts: Facts) -> int:
    """Return how many attempts were started."""
    return len({(start.trial, start.attempt, start.pid) for start in facts.starts})


def hpc_search(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of hpc_search, from the tree that PYTHONPATH names first."""
    return subprocess.run(
        [sys.executable, "-m", "hpc_search", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        # The working directory would come before PYTHONPATH.
        cwd="/",
        env={**os.environ, **environment},
    )


def _commands(run: Path, trials: int) -> list[str]:
    problems = []
    status = hpc_search("status", run, "--json")
    told: dict[str, Any] = json.loads(status.stdout) if status.returncode == 0 else {}
    if told.get("done") != trials:
        problems.append(
            f"status: exit {status.returncode}, done {told.get('done')} of {trials}: {status.stderr}"
        )
    collected = hpc_search("collect", run)
    if collected.returncode != 0 or "Traceback" in collected.stderr:
        problems.append(f"collect: exit {collected.returncode}: {collected.stderr[-500:]}")
    rows = len((run / "results" / "results.csv").read_text().splitlines()) - 1 if not problems else trials
    if rows != trials:
        problems.append(f"collect: {rows} rows in results.csv for {trials} trials")
    return problems


def _files(run: Path, rules: Rules) -> list[str]:
    every = [Path(directory, name) for directory, _, names in os.walk(run) for name in names]
    temporary = leftovers(run)
    problems = []
    if len(every) >= MOST_FILES:
        problems.append(f"{len(every)} files in the run, {MOST_FILES} or more")
    if len(temporary) > rules.temporaries:
        problems.append(
            f"{len(temporary)} temporary names for {rules.temporaries} kills: {temporary[:_LISTED]}"
        )
    checkpoints = [
        path for path in every if path.suffix == ".h5" and not _is_temporary(path.relative_to(run))
    ]
    if checkpoints:
        problems.append(f"checkpoints of finished trials were left: {checkpoints[:_LISTED]}")
    return problems


def _is_temporary(path: Path) -> bool:
    return any(part.startswith(durable.TEMPORARY) for part in path.parts)


def leftovers(run: Path) -> list[str]:
    """Return the temporary names below *run*, not what is inside of them."""
    found = []
    for directory, below, names in os.walk(run):
        found += [
            os.path.join(directory, name) for name in (*below, *names) if name.startswith(durable.TEMPORARY)
        ]
        below[:] = [name for name in below if not name.startswith(durable.TEMPORARY)]
    return found
