"""Whether a worker got the slice that its profile asks for, and what its trials are held to."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final, Literal

import msgspec

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Slice
from hpc_search.layout import Layout
from hpc_search.ledger import Ledger, mismatches
from hpc_search.ledger.submits import of_token
from hpc_search.site.client import ask
from hpc_search.slices import foreign, limits, observed
from hpc_search.slices.judge import judge
from hpc_search.slices.look import visible
from hpc_search.slices.observe import observe
from hpc_search.slices.observed import Observed
from hpc_search.worker.walltime import name_of_this_job, requeue_this_job

#: A task asks at most this often to run on another node.
MOVES: Final = 2
#: Seconds that SLURM has to answer: it kills this task soon after it agreed to run it again.
_SOON: Final = 10.0
#: Seconds that NVML has to say what is free after a trial.
_FREE_TIMEOUT: Final = 10.0
_SHARED: Final = ("shard", "mps", "packed")
#: What follows. The leader of packed workers is asked to "move" the task, or to "give up" this worker.
Outcome = Literal["", "leave", "give up", "move"]


class SliceCheck:
    """The slice of one worker. Without a known submission it is only looked at, never judged."""

    def __init__(self, layout: Layout, token: str, seat: str, *, packed: bool) -> None:
        """Look up the submission of *token*, and hide GPUs that were not asked for."""
        self._layout = layout
        self._token = token
        self._packed = packed
        self._under_slurm = not seat.startswith("local:") and "SLURM_JOB_ID" in os.environ
        self._profile = profile_of(layout, token) if token else None
        self._wanted = self._profile.slice if self._profile is not None else None
        self._share: foreign.Share | None = None
        if self._wanted == Slice() and not self._is_cpu_task():
            # Nobody said what it is, as on a laptop: it is what is there.
            self._wanted = None
        if self._wanted is not None and self._wanted.kind == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def _is_cpu_task(self) -> bool:
        """Return whether SLURM runs it without a GPU of its own: all GPUs of the node may be in sight."""
        given = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS")
        return self._under_slurm and not given

    def check(self, ledger: Ledger, device: str) -> tuple[Outcome, str]:
        """Look, note what is seen, judge it; return what follows, and the kind of device for trials.

        *device* is what is known without asking the driver, which is not asked without need.
        """
        wanted = self._wanted
        if wanted is None:
            named = visible(os.environ.get("CUDA_VISIBLE_DEVICES"))
            seen = observe(("nvml",) if device == "cuda" or named else ())
        else:
            seen = observe(wanted.expect.checks if wanted.kind != "cpu" else ())
            seen = msgspec.structs.replace(seen, kind=wanted.kind)
        ledger.note(mismatches.SLICE, observed.encode(seen))
        device = "cuda" if seen.devices and seen.visible != () else device
        if wanted is None or self._profile is None:
            return "", device
        words = judge(wanted, seen)
        if words and self._profile.on_mismatch != "warn":
            return self._mismatch(ledger, self._profile, words), device
        if words:
            ledger.note(mismatches.WARNED, words)
            _say(f"another slice than the profile expects, as it allows: {words}")
        self._hold(wanted, seen)
        return "", device

    def _hold(self, wanted: Slice, seen: Observed) -> None:
        os.environ.update(limits.variables(wanted, seen, own_daemon=False))
        total = seen.devices[0].memory if seen.devices else 0
        mine = int(total * limits.fraction(wanted)) or int(wanted.expect.free_gib * (1 << 30))
        if wanted.kind in _SHARED and total and mine:
            self._share = foreign.Share(mine, total)

    def foreign(self, detail: str) -> str:
        """Return in words that others took memory of this share when a trial ended with *detail*, else ""."""
        if self._share is None:
            return ""
        return foreign.taken(self._share, detail, None) or foreign.taken(self._share, detail, self._free())

    @staticmethod
    def _free() -> int | None:
        devices = observe(("nvml",), timeout=_FREE_TIMEOUT).devices
        return devices[0].free if devices else None

    def _mismatch(self, ledger: Ledger, profile: Profile, words: str) -> Outcome:
        ledger.note(mismatches.MISMATCH, words)
        # Whatever happens next, it is counted.
        ledger.journal.sync()
        nodes, runs = mismatches.nodes_of_task(self._layout, self._token, ledger.me.seat)
        moves = profile.on_mismatch == "requeue" and self._under_slurm and runs <= MOVES
        _say(f"this worker was not given the slice that its profile expects: {words}")
        if moves and self._packed:
            ledger.note(mismatches.ELSEWHERE, ",".join(nodes))
        elif moves and (avoided := run_elsewhere(nodes, profile.exclude)) is not None:
            ledger.note(mismatches.ELSEWHERE, avoided)
            _say(f"SLURM runs this task again{', not on ' if avoided else ''}{avoided}")
        else:
            moves = False
            _say(
                "no attempt was used; next: correct `slice` in the profile, or ask the site, and submit again"
            )
        ledger.exit(mismatches.MISMATCH)
        if not self._packed:
            return "leave"
        return "move" if moves else "give up"


def profile_of(layout: Layout, token: str) -> Profile | None:
    """Return the profile of the submission with this *token*, None where there is none."""
    found = of_token(layout, token)
    return found.profile if found is not None else None


def run_elsewhere(nodes: list[str], exclude: str) -> str | None:
    """Have SLURM run this task again, not on *nodes*; return those that it avoids, None where it refuses.

    Only a pending job can be told to avoid nodes, and it is one as soon as it was requeued. A partition
    without other nodes is not left without any.
    """
    if not requeue_this_job():
        return None
    avoided = ",".join(filter(None, [exclude, *nodes]))
    command = ["scontrol", "update", f"JobId={name_of_this_job(os.environ)}", f"ExcNodeList={avoided}"]
    return ",".join(nodes) if _others(nodes) and ask(command, _SOON) is not None else ""


def _others(nodes: list[str]) -> bool:
    partition = os.environ.get("SLURM_JOB_PARTITION", "")
    shown = ask(["sinfo", "-h", "-N", "-p", partition, "-o", "%N"], _SOON) if partition else None
    return bool(set((shown or "").split()) - set(nodes))


def _say(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"hpc_search: {text}" + "\n")


def visible_device() -> str:
    """Return "cuda" where a GPU is visible to this process, else "cpu"."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return "cpu"
    with suppress(OSError):
        if any(name[6:].isdigit() for name in os.listdir("/dev") if name.startswith("nvidia")):
            return "cuda"
    return "cpu"
