"""The status in words, for a terminal; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: Lines of workers and of failures that are shown.
_SHOWN: Final = 10
_BOLD: Final = "\x1b[1m{}\x1b[0m"
_RED: Final = "\x1b[31m{}\x1b[0m"


def plain(text: str) -> str:
    """Return *text* without what a terminal would act on: another user may have written it."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def duration(seconds: float) -> str:
    """Return *seconds* in the two largest units that fit: "2 h 05 min", "45 s"."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"


def time_left(eta: Any) -> str:
    """Return an Eta as a range in words."""
    low = duration(eta.low)
    if eta.high is None:
        return f"at least {low}"
    high = duration(eta.high)
    return low if low == high else f"{low} to {high}"


def render(status: Mapping[str, Any], width: int, *, colour: bool = False) -> str:
    """Return the lines of *status* (the fields of a Status), none longer than *width*."""
    blocks = [_head(status, width), _progress(status), _best(status), _workers(status)]
    lines = [plain(line)[:width].rstrip() for block in blocks for line in block]
    failures = [plain(line)[:width].rstrip() for line in _failures(status)]
    notes = [plain(note)[: max(width, 200)] for note in status["notes"]]
    if colour:
        lines[0] = _BOLD.format(lines[0])
        failures = [_RED.format(line) for line in failures]
    return "\n".join([*lines, *failures, *notes])


def _head(status: Mapping[str, Any], width: int) -> list[str]:
    finished = status["done"] + status["failed"] + status["pruned"]
    share = finished / status["trials"] if status["trials"] else 1.0
    room = max(10, min(40, width - 40))
    bar = "#" * int(share * room)
    head = f"{status['name']}  (run {status['run_id']}, {status['metric']} {status['goal']})"
    return [head, f"[{bar:.<{room}}] {finished} of {status['trials']} trials, {share:.0%}"]


def _progress(status: Mapping[str, Any]) -> list[str]:
    causes = ", ".join(f"{count} {cause}" for cause, count in status["causes"].items())
    counts = [f"{status[state]} {state}" for state in ("pending", "claimed", "running", "paused")]
    failed = f"{status['failed']} failed" + (f" ({causes})" if causes else "")
    final = f"{status['done']} done, {failed}, {status['pruned']} pruned"
    unknown = [f"{status['unknown']} unknown"] if status["unknown"] else []
    speed = []
    if status["rate_per_min"] is not None:
        speed.append(f"{status['rate_per_min']:.3g} trials/min")
    if status["eta_seconds"] is not None:
        speed.append(f"time left {time_left(status['eta_seconds'])}")
    speed.append(f"{duration(status['busy_seconds'])} spent in trials")
    return [final, ", ".join([*counts, *unknown]), ", ".join(speed)]


def _best(status: Mapping[str, Any]) -> list[str]:
    lines = []
    best, point = status["best"], status["best_point"]
    if best is not None:
        lines.append(f"best trial {best.trial} (point {best.point}): {status['metric']} = {best.value:.6g}")
    if point is not None and point.n > 1:
        lines.append(f"best point {point.point}: mean {point.mean:.6g} over {point.n} trials")
    return lines


def _workers(status: Mapping[str, Any]) -> list[str]:
    workers: Sequence[Any] = status["workers"]
    if not workers:
        return []
    lines = [f"{len(workers)} live workers:" if len(workers) > 1 else "1 live worker:"]
    for worker in workers[:_SHOWN]:
        held = f"trial {worker.trials[0]}" if worker.trials else "no trial"
        more = f" (+{len(worker.trials) - 1} claimed)" if len(worker.trials) > 1 else ""
        where = " ".join(part for part in (worker.node, worker.seat, worker.device) if part)
        lines.append(f"  {worker.id[:8]}  {where}  {held}{more}")
    return [*lines, *_rest(len(workers))]


def _failures(status: Mapping[str, Any]) -> list[str]:
    failures: Sequence[Any] = status["failures"]
    if not failures:
        return []
    lines = ["failures:"]
    for failure in failures[:_SHOWN]:
        detail = f": {failure.detail}" if failure.detail else ""
        lines.append(f"  {failure.count} x {failure.cause} (trial {failure.trial}){detail}")
    return [*lines, *_rest(len(failures)), f"  `show RUN {failures[0].trial}` prints the log of one"]


def _rest(count: int) -> list[str]:
    return [f"  ... and {count - _SHOWN} more"] if count > _SHOWN else []
