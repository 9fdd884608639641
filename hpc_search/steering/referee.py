"""Who decides on trials, at rungs and between folds; paused ones go on, or end with their bracket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from hpc_search import checkpoint
from hpc_search.ledger import Claimed, Ledger
from hpc_search.ledger.follower import Follower
from hpc_search.records import journal as lines
from hpc_search.records.plan import PlannedTrial
from hpc_search.steering.brackets import Brackets
from hpc_search.steering.racing import Races
from hpc_search.strategies import pruning, racing
from hpc_search.strategies.pruning import Schedule

#: What an end record says of a trial that waited until its bracket ended.
CLOSED: Final = "paused at rung {rung}, and never promoted: its bracket has ended"
_NOTHING: Final = Schedule()


class Referee:
    """One worker's view of all brackets and races, and its hand on the ledger."""

    def __init__(self, ledger: Ledger, follower: Follower) -> None:
        """Decide by what *follower* reads; write by *ledger*."""
        self._ledger = ledger
        self._plan = ledger.plan
        self._follower = follower
        self._brackets = Brackets(ledger.plan, follower)
        self._races = Races(ledger.layout, ledger.plan, follower)

    @classmethod
    def of(cls, ledger: Ledger) -> Referee | None:
        """Return the one of the worker of *ledger*, None where the plan ends no trial early."""
        blocks = ledger.plan.blocks
        judges = any(block.pruning for block in blocks)
        if not judges and not any(block.racing for block in blocks):
            return None
        return cls(ledger, Follower(ledger.layout, ledger.plan, reports=judges))

    def refresh(self) -> None:
        """Take in what the journals say by now."""
        for number in self._follower.refresh():
            self._brackets.take(number)
            self._races.take(number)

    def schedule(self, number: int) -> Schedule:
        """Return after which reports trial *number* is judged."""
        bracket = self._brackets.of(number)
        return bracket.schedule if bracket is not None else _NOTHING

    def metric(self, number: int) -> str:
        """Return the name of what trial *number* is judged by."""
        return self._plan.part(self._brackets.block(number)).metric.name

    # -- a trial that runs
    def judge(self, claimed: Claimed, rung: int, step: int) -> lines.Verdict:
        """Return what becomes of a trial whose report at *step* completed *rung*, durably recorded.

        What was decided before is said again: the record of the latest attempt that was judged there, or of
        its promotion.
        """
        self.refresh()
        number = claimed.trial.number
        verdict = self._brackets.verdict(number, rung)
        if verdict is not None:
            gone_on = verdict.decision == "pause" and self._brackets.promoted(number, rung)
            return structs.replace(verdict, decision="promote") if gone_on else verdict
        verdict = self._decide(claimed, rung, step)
        self._ledger.journal.append(verdict)
        self._ledger.journal.sync()
        return verdict

    def _decide(self, claimed: Claimed, rung: int, step: int) -> lines.Verdict:
        number, attempt = claimed.trial.number, claimed.attempt
        bracket = self._brackets.of(number)
        if bracket is None:
            raise LookupError(number)
        pruned = self._brackets.given_up.get(claimed.trial.point)
        if pruned is not None:
            return lines.Verdict(
                trial=number,
                attempt=attempt,
                rung=rung,
                step=step,
                decision="prune",
                rule=pruning.POINT,
                seen=str(pruned),
            )
        values = [value for _, value in self._brackets.reported(number, bracket.metric, until=step)]
        others, behind = bracket.others(number, rung, step)
        judged = pruning.judge(bracket.spec, bracket.goal, number, values, others, behind)
        return pruning.recorded(bracket.spec, judged, trial=number, attempt=attempt, rung=rung, step=step)

    def unreported(self, number: int) -> str:
        """Return what to say of a trial that is done and never reported what it is judged by, else ""."""
        bracket = self._brackets.of(number)
        if bracket is None:
            return ""
        self.refresh()
        if self._brackets.reported(number, bracket.metric):
            return ""
        return (
            f"the search prunes by reports of {bracket.metric!r}, and the trial ended without one: call "
            f"trial.report(step, {bracket.metric}=...) as it trains (a program writes a line with 'step' and "
            f"{bracket.metric!r} to HPC_SEARCH_REPORT), or remove `pruning` from the search"
        )

    # -- trials that wait
    def advance(self) -> list[Claimed]:
        """Own the next paused trial that goes on, or one that was interrupted; end those that never will.

        Of several workers one gets a trial; what it was decided from is recorded before it is owned, and
        holds for whoever gets it.
        """
        if self._ledger.closed:
            return []
        self.refresh()
        self._end_given_up()
        for number in sorted(self._brackets.interrupted):
            # It ran before what is promoted now could be: with one worker, kills change no order.
            if owned := self._ledger.claim(1, number):
                return owned
        for bracket in self._brackets:
            if not bracket.changed:
                continue
            found = bracket.promotions()
            for promotion in found:
                # Of a search that stopped nothing is decided.
                if not self._ledger.gates.shut(promotion.number) and (owned := self._promote(promotion)):
                    return owned
            leaving = bracket.paused if bracket.settled and not found else []
            self._end(leaving, "")
            # What could not be owned is looked at again.
            bracket.changed = bool(found or leaving)
        return []

    def due(self) -> bool:
        """Return whether `advance` has something to do."""
        self.refresh()
        changed = (bracket for bracket in self._brackets if bracket.changed)
        return bool(self._brackets.interrupted) or any(
            bracket.promotions() or (bracket.settled and bracket.paused) for bracket in changed
        )

    def filling(self) -> bool:
        """Return whether somebody runs whose next rung may let a paused trial go on."""
        self.refresh()
        for number in self._follower.live:
            bracket = self._brackets.of(number)
            if bracket is None:
                continue
            member = bracket.members.get(number)
            rung = len(member.values) if member is not None else 0
            if any(one.fate == "paused" and len(one.values) > rung for one in bracket.members.values()):
                return True
        return False

    def _promote(self, promotion: pruning.Promotion) -> list[Claimed]:
        number, rung = promotion.number, promotion.rung
        spec, paused = self._brackets.block(number).pruning, self._brackets.verdict(number, rung)
        if promotion.judged is not None and spec is not None and paused is not None:
            verdict = pruning.recorded(
                spec, promotion.judged, trial=number, attempt=paused.attempt, rung=rung, step=paused.step
            )
            self._ledger.journal.append(verdict)
            self._ledger.journal.sync()
        return self._ledger.promote(number)

    def _end_given_up(self) -> None:
        given_up = self._brackets.given_up
        waiting = [one for one in self._follower.paused if self._brackets.point(one) in given_up]
        self._end(waiting, "point")

    def _end(self, numbers: Sequence[int], why: str) -> None:
        """End paused trials as pruned, those that still wait; their points are given up from then on."""
        if not numbers:
            return
        owned = self._ledger.end_paused(numbers)
        paused = self._follower.paused
        self._finish(
            [
                _end_of(
                    one,
                    self._given_up(one.trial) if why else CLOSED.format(rung=paused[one.trial.number].rung),
                    self._last(one.trial.number),
                )
                for one in owned
            ]
        )
        self.refresh()

    # -- trials that have not begun
    def sift(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Return those of *claimed* that shall run; end those whose point was pruned, or lost over its folds.

        Such a decision is durably recorded before anything ends by it.
        """
        kept, dropped = [], []
        lost = self._lost(claimed)
        for one in claimed:
            if one.trial.number in lost:
                dropped.append(structs.replace(_end_of(one, lost[one.trial.number], {}), left_out=True))
            elif self._is_given_up(one):
                dropped.append(_end_of(one, self._given_up(one.trial), {}))
            else:
                kept.append(one)
        self._finish(dropped)
        return kept

    def _lost(self, claimed: Sequence[Claimed]) -> dict[int, str]:
        """Return trial -> in words by what its point is out."""
        found, fresh = {}, False
        for one in claimed:
            verdict = self._races.decide(one)
            if verdict is None or verdict.race is None:
                continue
            found[one.trial.number] = racing.in_words(verdict.race)
            if verdict.n == 0:
                self._ledger.journal.append(verdict)
                fresh = True
        if fresh:
            self._ledger.journal.sync()
        return found

    def _is_given_up(self, claimed: Claimed) -> bool:
        return (
            claimed.trial.point in self._brackets.given_up
            and self._brackets.of(claimed.trial.number) is not None
        )

    def _given_up(self, trial: PlannedTrial) -> str:
        number = self._brackets.given_up[trial.point]
        end = self._follower.ends[number]
        places = [f"fold {end.fold}"] if end.fold != trial.fold else []
        places += [f"seed {end.seed}"] if end.seed != trial.seed else []
        return f"its point was pruned at {' with '.join(places)} (trial {number})"

    def _last(self, number: int) -> dict[str, float]:
        reports = self._follower.reports(number)
        return reports[-1][1] if reports else {}

    def _finish(self, ends: Sequence[lines.End]) -> None:
        self._ledger.finish_all(ends)
        if not self._plan.search.keep_checkpoints:
            for end in ends:
                checkpoint.Slots.remove(self._ledger.layout, end.trial)


def _end_of(claimed: Claimed, detail: str, metrics: dict[str, Any]) -> lines.End:
    trial = claimed.trial
    return lines.End(
        trial=trial.number,
        attempt=claimed.attempt,
        state="pruned",
        params=trial.params,
        point=trial.point,
        fold=trial.fold,
        seed=trial.seed,
        block=trial.block,
        detail=detail,
        metrics=metrics,
        step=claimed.before.step,
    )
