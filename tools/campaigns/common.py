"""What the campaigns share: the tally that a campaign returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of what was done and seen, and what must not have happened."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return one line a count, then the problems."""
        lines = [f"{name:<40} {count}" for name, count in self.counts.items()]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])
