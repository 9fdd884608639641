"""The configuration of SLURM, as `scontrol show config` prints it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_LINE: Final = re.compile(r"(\S+)\s+=\s?(.*)")
_COUNT: Final = re.compile(r"\d+")
#: Words for "not set"; UNLIMITED is one of them where a limit is meant.
_NOTHING: Final = frozenset({"", "(null)", "N/A", "NONE", "none", "n/a", "UNLIMITED", "INFINITE"})
#: What SLURM takes where `cred_expire` is not in AuthInfo, in seconds.
_CRED_EXPIRE_S: Final = 120


@dataclass(frozen=True, slots=True)
class Config:
    """Keys and values as printed; which keys there are differs between releases of SLURM."""

    values: dict[str, str] = field(default_factory=dict)

    def word(self, key: str) -> str:
        """Return the value of *key*, "" where it is missing or not set."""
        value = self.values.get(key, "")
        return "" if value in _NOTHING else value

    def number(self, key: str) -> int | None:
        """Return the number that *key* starts with (``30 sec`` is 30), None where there is none."""
        match = _COUNT.match(self.values.get(key, ""))
        return int(match.group()) if match else None

    def yes(self, key: str) -> bool | None:
        """Return whether *key* is switched on; None where it is missing."""
        value = self.values.get(key, "").lower()
        return None if not value else value in ("yes", "1", "true")

    def options(self, key: str) -> dict[str, str]:
        """Return the list ``a,b=1`` of *key* as a mapping; a word without a value has ""."""
        parts = (part.strip().partition("=") for part in self.word(key).split(","))
        return {name.lower(): value for name, _, value in parts if name}

    @property
    def requeue_wait_s(self) -> int | None:
        """Seconds that a requeued job is not started again: until its credential has expired, or longer."""
        if not self.values:
            return None
        expire = self.options("AuthInfo").get("cred_expire", "")
        delay = self.options("SchedulerParameters").get("requeue_delay", "")
        least = int(expire) if expire.isdecimal() else _CRED_EXPIRE_S
        return max(least, int(delay)) if delay.isdecimal() else least

    @property
    def preempts(self) -> bool:
        """Whether jobs are preempted at all."""
        kind = self.word("PreemptType").removeprefix("preempt/")
        return kind not in ("", "none")

    @property
    def signals_preempted(self) -> bool:
        """Whether a preempted job gets the signal of its ``--signal`` at once."""
        return "preempt_send_user_signal" in self.options("SlurmctldParameters")


def read_config(text: str) -> Config:
    """Return the configuration in *text*; headings and the line on slurmctld are passed over."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return Config({match.group(1): match.group(2).strip() for match in found if match})
