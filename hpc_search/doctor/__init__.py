"""Proves on the very directory what the ledger needs of its file system, and says what follows."""

from __future__ import annotations

from hpc_search.doctor.examine import examine
from hpc_search.doctor.judging import rows
from hpc_search.doctor.measured import Measured
from hpc_search.doctor.report import Report, Row, Verdict
from hpc_search.doctor.verdict import verdict

__all__ = ["Measured", "Report", "Row", "Verdict", "examine", "rows", "verdict"]
