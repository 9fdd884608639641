"""Early stopping: pure rules from reported values to decisions; a decision's record replays to it."""

from __future__ import annotations

from hpc_search.strategies.pruning.judging import POINT, Judgement, count, judge, recorded, replay
from hpc_search.strategies.pruning.promoting import Member, Promotion, promotions, settled
from hpc_search.strategies.pruning.schedule import PAUSING, Schedule, bracket_of, core, pauses, schedule
from hpc_search.strategies.pruning.wording import in_words, rule_in_words

__all__ = [
    "PAUSING",
    "POINT",
    "Judgement",
    "Member",
    "Promotion",
    "Schedule",
    "bracket_of",
    "core",
    "count",
    "in_words",
    "judge",
    "pauses",
    "promotions",
    "recorded",
    "replay",
    "rule_in_words",
    "schedule",
    "settled",
]
