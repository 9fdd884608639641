"""The walltime to ask for: short while nothing is known, then what the trials were seen to need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from hpc_search.config.profile import Profile
from hpc_search.launchers.sending import Order
from hpc_search.worker.estimate import times

#: Minutes of a job where nothing is known, and the most where no trial needs more.
USUAL: Final = 60
#: Minutes that starting a job is worth at least.
LEAST: Final = 10
#: A trial may need so much more than the longest known one, and a worker has to start.
_MARGIN: Final = 1.5
_START_S: Final = 120.0
#: A job is this many leases long: else a killed worker's trials wait for most of another's time.
_LEASES: Final = 4


class Learned(NamedTuple):
    """Minutes to ask for and, for gaps of the schedule, the least to accept (0: not said)."""

    minutes: int
    least: int = 0


def walltime(
    profile: Profile,
    needs: Sequence[float],
    durations: Sequence[float],
    work: float,
    longest: int | None,
    lease: float = 0.0,
) -> Learned:
    """Return the walltime of the next jobs.

    Args:
        profile: Its ``time`` holds where it is not 0.
        needs: Seconds from a start to the next checkpoint or the end, of trials that were seen.
        durations: Seconds of trials that ended.
        work: Trials that are left for each worker.
        longest: The partition's MaxTime in minutes, where it has one.
        lease: Seconds after which a silent worker's trials are taken over.
    """
    if profile.time:
        return Learned(max(0, profile.time), profile.time_min)
    floor = max(LEAST, math.ceil(_LEASES * lease / 60))
    need = math.ceil((max(needs) * _MARGIN + _START_S) / 60) if needs else floor
    least = max(floor, need)
    rest = statistics.mean(durations) * work * _MARGIN + _START_S if durations else math.inf
    minutes = max(least, profile.time_min, min(USUAL, math.ceil(min(rest, USUAL * 60) / 60)))
    most = longest or minutes
    minutes, least = min(minutes, most), min(profile.time_min or least, most)
    return Learned(minutes, least if least < minutes else 0)


def short(profile: Profile, lease: float) -> str:
    """Return what to say of a walltime that is given and short of four times the *lease*, "" else."""
    if not 0 < profile.time * 60 < _LEASES * lease:
        return ""
    most = profile.time * 60 // _LEASES
    return (
        f"the lease ({lease:g} s) is more than a quarter of the walltime ({profile.time} min): trials of a "
        f"killed worker wait that long; `lease: {most}` in the search file, or a longer `time` in the profile"
    )


def learned(order: Order) -> Order:
    """Return *order* with the walltime that the journals of the run suggest; its profile's own holds."""
    profile = order.profile
    if order.launcher.name != "slurm" or profile.time:
        return order
    known = times(order.layout)
    found = walltime(
        profile,
        known.needs,
        known.durations,
        order.pending / max(1, order.wanted),
        order.launcher.longest(profile),
        order.plan.search.lease,
    )
    return replace(order, minutes=found.minutes, minutes_min=found.least)
