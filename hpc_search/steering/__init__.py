"""What decides as a search goes on: proposed points, stages that open, verdicts on trials.

Deciding is pure (`strategies`); here it meets the ledger and the plan.
"""

from __future__ import annotations

from hpc_search.steering.points import Points
from hpc_search.steering.proposer import Proposer
from hpc_search.steering.referee import Referee

__all__ = ["Points", "Proposer", "Referee"]
