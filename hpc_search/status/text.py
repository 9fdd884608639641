"""The status in words, for a terminal; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from hpc_search.space import amount

if TYPE_CHECKING:
    from hpc_search.status.model import Eta, Failure, Hours, Running, Stage, Status, Waiting

#: Rows of one list where the height does not matter.
_SHOWN: Final = 5
_NARROWEST: Final = 30
#: So many folds are listed; of more, only counts are shown.
_FOLDS: Final = 12
Style = Literal["", "bold", "good", "bad", "warn", "dim"]


class Line(NamedTuple):
    """One row of the screen, without control characters, and how it looks where there is colour."""

    text: str
    style: Style = ""


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


def time_left(eta: Eta) -> str:
    """Return an Eta as a range in words."""
    low = duration(eta.low)
    if eta.high is None:
        return f"at least {low}"
    high = duration(eta.high)
    return low if low == high else f"{low} to {high}"


def cut(text: str, width: int) -> str:
    """Return *text* in at most *width* columns, shortened between two words, at least not in a number."""
    if len(text) <= width:
        return text
    head = text[: width - 3]
    word = head.rpartition(" ")[0]
    return (word if len(word) > width // 3 else head.rstrip("0123456789.,")) + "..."


def flow(parts: Iterable[str], width: int, indent: str = "  ", joint: str = ", ") -> list[str]:
    """Return *parts* one after the other on as few rows as they need; a part is never broken."""
    rows: list[str] = []
    for part in filter(None, parts):
        if rows and len(rows[-1]) + len(joint) + len(part) <= width:
            rows[-1] += joint + part
        else:
            rows.append((indent if rows else "") + part)
    return [cut(row, width) for row in rows]


def wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Return the words of *text* on as many rows as they need."""
    return flow(text.split(), width, indent, " ")


def screen(status: Status, width: int = 80, lines: int | None = None, run: str = "RUN") -> list[Line]:
    """Return the rows of *status*, none wider than *width*, at most *lines* of them.

    *run* is what the user types for the run.
    """
    width = max(_NARROWEST, width)
    top = [*_head(status, width), *_progress(status, width), *_best(status, width)]
    bottom = [*_notes(status, width), *_next(status, width, run)]
    middle: list[Line] = []
    # What can be left out, the most useful first; each takes what the ones before it leave.
    for section in (_stages, _folds, _waiting, _failures, _slow, _nodes):
        room = None if lines is None else lines - len(top) - len(middle) - len(bottom)
        middle += _fitted(section, status, width, room)
    rows = [Line(plain(line.text).rstrip(), line.style) for line in (*top, *middle, *bottom)]
    return rows if lines is None else rows[:lines]


Section = Callable[["Status", int, int], list[Line]]


def _fitted(section: Section, status: Status, width: int, room: int | None) -> list[Line]:
    """Return *section* with as many entries as fit into *room* rows."""
    for shown in range(_SHOWN, 0, -1):
        rows = section(status, width, shown)
        if room is None or len(rows) <= room:
            return rows
    return []


def _head(status: Status, width: int) -> list[Line]:
    share = status.finished / status.trials if status.trials else 1.0
    searches = {one.search for one in status.stages if one.search}
    what = f"{len(searches)} searches" if searches else f"{status.metric} {status.goal}"
    title = f"{status.name}  ({what}, run {status.run_id})"
    # All but the last trial is not 100 %.
    percent = f"{int(share * 100)} %"
    words = f" {status.finished:,} of {status.trials:,} trials, {percent}"
    room = max(10, min(40, width - len(words) - 2))
    bar = "#" * int(share * room)
    return [
        Line(cut(title, width), "bold"),
        *(Line(row, _STYLES.get(status.state, "")) for row in flow(_state(status), width)),
        Line(f"[{bar:.<{room}}]{words}"),
    ]


_STYLES: Final[dict[str, Style]] = {
    **dict.fromkeys(("running", "finished"), "good"),
    **dict.fromkeys(("stopped", "silent", "idle"), "bad"),
    **dict.fromkeys(("paused", "waiting", "starting", "new", "unknown"), "warn"),
}
_STAGE_STYLES: Final[dict[str, Style]] = {
    "waiting": "dim",
    "open": "",
    "finished": "good",
    "stopped": "bad",
}
#: Stages that are shown at least, where there is room.
_STAGES: Final = 16
_STATES: Final = {
    "idle": "nothing runs",
    "new": "not started",
    "silent": "no sign of life",
    "unknown": "no worker",
}


def _state(status: Status) -> list[str]:
    """Return the first row: whether it runs, by how many, and what it waits for."""
    states = Counter(worker.state for worker in status.workers)
    word = _STATES.get(status.state, status.state)
    live = states["live"]
    parts = [f"{word}: {_count(live, 'worker')} live" if live else word]
    starting = sum(one.starting for one in status.slots)
    if starting:
        parts = [f"{word}: {_count(starting, 'worker')}"] if not live else [*parts, f"{starting} starting"]
    parts += [f"{states[state]} {state}" for state in ("silent", "gone") if states[state]]
    if status.queue is not None:
        waiting = sum(group.tasks for group in status.queue.waiting)
        # In steps of 10 s, so that a live view does not send it with every refresh.
        age = int(status.queue.age or 0) // 10 * 10
        asked = f" ({duration(age)} ago)" if age else ""
        parts.append(f"{_count(waiting, 'task')} waiting in SLURM{asked}" if waiting else "")
    wanted = sum(one.wanted for one in status.slots)
    parts.append(f"{wanted} wanted" if wanted and status.left else "")
    return [part for part in parts if part]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _progress(status: Status, width: int) -> list[Line]:
    causes = ", ".join(f"{count:,} {cause}" for cause, count in status.causes.items())
    final = [
        f"{status.done:,} done",
        f"{status.failed:,} failed" + (f" ({causes})" if causes else ""),
        pruned_words(status.pruned, status.left_out),
    ]
    names = ("running", "claimed", "paused", "pending", "waiting")
    still = [f"{getattr(status, name):,} {name}" for name in names]
    still.append(f"{status.closed:,} not run: their search stopped")
    shown = [text for text in still if not text.startswith("0 ")]
    unknown = f"{status.unknown:,} unknown" if status.unknown else ""
    speed = []
    if status.rate_per_min is not None:
        speed.append(f"{amount(status.rate_per_min)} trials/min")
    if status.median_seconds is not None:
        speed.append(f"{_short(status.median_seconds)} a trial")
    if status.eta_seconds is not None:
        speed.append(f"time left {time_left(status.eta_seconds)}{_without(status.eta_without)}")
    rows = [*flow([*final, *shown, unknown], width), *flow(speed, width)]
    for hours in status.hours:
        rows += flow(_hours(hours), width)
    rows += flow([f"budget: {', '.join(one.text for one in status.budget)}"] if status.budget else [], width)
    return [Line(row) for row in rows]


def pruned_words(pruned: int, left_out: int) -> str:
    """Return how many trials were *pruned*, and how many of them a race left out; "" for none."""
    if left_out == pruned:
        return f"{left_out:,} left out by racing" if pruned else ""
    return f"{pruned:,} pruned" + (f" ({left_out:,} left out by racing)" if left_out else "")


def _without(stages: Sequence[str]) -> str:
    """Return which *stages* are not in the time left."""
    if not stages:
        return ""
    more = f" and {len(stages) - 2} more" if len(stages) > 2 else ""
    return (
        f" (without stage{'s' * (len(stages) > 1)} {', '.join(stages[:2])}{more}: how long is not known yet)"
    )


def _short(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _hours(hours: Hours) -> list[str]:
    wasted = {name: getattr(hours, name) for name in ("failed", "interrupted", "lost", "superseded", "idle")}
    parts = [f"{name} {_amount(value)}" for name, value in wasted.items() if value > 0.01 * hours.spent]
    why = f" ({', '.join(parts)})" if parts else ""
    found = [f"{hours.unit}-hours: {_amount(hours.spent)} spent", f"{_amount(hours.wasted)} wasted{why}"]
    if hours.left is not None and hours.left.high is not None:
        low, high = _amount(hours.left.low), _amount(hours.left.high)
        found.append(f"{low} to {high} left" if low != high else f"{low} left")
    return found


def _amount(hours: float) -> str:
    return amount(hours, 3 if hours >= 0.001 else 1)


def _best(status: Status, width: int) -> list[Line]:
    parts = []
    best, point = status.best, status.best_point
    if best is not None:
        first = f" (the first of {len(status.objectives)} objectives)" if status.objectives else ""
        parts.append(f"best {status.metric}{first} {best.value:.6g}: trial {best.trial} (point {best.point})")
    if point is not None and point.n > 1:
        parts.append(f"best point {point.point}: mean {point.mean:.6g} over {point.n} trials")
    return [Line(row, "good") for row in flow(parts, width, joint="; ")]


def _rest(rows: list[Line], total: int, shown: int, what: str) -> list[Line]:
    return [*rows, Line(f"  ... and {total - shown:,} more {what}")] if total > shown else rows


def _stages(status: Status, width: int, shown: int) -> list[Line]:
    # Those that are worked at come before those that have ended, and those that wait.
    order = {"open": 0, "stopped": 1, "finished": 2, "waiting": 3}
    chosen = sorted(status.stages, key=lambda one: order[one.state])[: max(shown, _STAGES)]
    kept = [one for one in status.stages if one in chosen]
    rows = [Line(row, _STAGE_STYLES[one.state]) for one in kept for row in flow(_stage(one), width, "    ")]
    return _rest(rows, len(status.stages), len(kept), "stages")


def _stage(one: Stage) -> list[str]:
    name = " ".join(filter(None, [one.search, one.stage])) or "search"
    failed = [f"{one.failed:,} failed"] if one.failed else []
    best = (
        one.best_point.mean
        if one.best_point is not None
        else one.best.value
        if one.best is not None
        else None
    )
    shown = [f"best {one.metric} {best:.6g}"] if best is not None else []
    head = f"  {name}: {one.state}, {one.finished:,} of {one.trials:,} trials"
    return [head, *failed, pruned_words(one.pruned, one.left_out), *shown]


def _folds(status: Status, width: int, _shown: int) -> list[Line]:
    folds = status.folds
    if len(folds) < 2 or not status.finished:
        return []
    bad = [one for one in folds if one.failed]
    if len(folds) > _FOLDS:
        done = sum(one.finished == one.trials for one in folds)
        failed = f", {len(bad):,} with failed trials" if bad else ""
        return [Line(f"{len(folds):,} folds: {done:,} finished{failed}")]
    parts = [
        f"{one.fold}: {one.done:,} of {one.trials:,} done"
        + (f", {one.failed:,} failed" if one.failed else "")
        + (f", {pruned_words(one.pruned, one.left_out)}" if one.pruned else "")
        for one in folds
    ]
    rows = flow([f"folds {parts[0]}", *parts[1:]], width, joint="; ")
    return [Line(row, "bad" if bad else "") for row in rows]


def _waiting(status: Status, width: int, shown: int) -> list[Line]:
    groups: Sequence[Waiting] = status.queue.waiting if status.queue is not None else ()
    rows = []
    for group in groups[:shown]:
        start = f", SLURM expects to start in {duration(group.starts_in)}" if group.starts_in else ""
        meaning = f": {group.meaning}" if group.meaning else ""
        who = f"{_count(group.tasks, 'task')} wait{'s' if group.tasks == 1 else ''}"
        text = f"{who}, {group.reason}{meaning}{start}"
        rows += [Line(row, "warn") for row in wrap(text, width)]
        if group.next and group.next != "wait":
            rows += [Line(f"  {row}") for row in wrap(f"to do: {group.next}", width - 2, "  ")]
    return _rest(rows, len(groups), shown, "reasons")


def _failures(status: Status, width: int, shown: int) -> list[Line]:
    failures: Sequence[Failure] = status.failures
    rows = [Line("failures:", "bad")] if failures else []
    for failure in failures[:shown]:
        detail = f": {failure.detail}" if failure.detail else ""
        rows.append(Line(cut(f"  {failure.count:,} x {failure.cause}{detail}", width), "bad"))
        where = f", {failure.log} bytes {failure.log_bytes[0]}-{failure.log_bytes[1]}" if failure.log else ""
        node = f" on {failure.node}" if failure.node else ""
        rows.append(Line(cut(f"      `show RUN {failure.trial} --log`{node}{where}", width)))
    return _rest(rows, len(failures), shown, "kinds")


def _slow(status: Status, width: int, shown: int) -> list[Line]:
    rows = [Line(cut(_slow_words(one), width), "warn" if one.stall else "") for one in status.slow[:shown]]
    return _rest(rows, len(status.slow), shown, "slow trials")


def _slow_words(one: Running) -> str:
    text = f"trial {one.trial} runs for {duration(one.seconds)} on {one.node}"
    if one.stall:
        return f"{text}, without a report for {duration(one.quiet)}: it will be stopped as hung"
    return f"{text}: long beside the others"


def _nodes(status: Status, width: int, shown: int) -> list[Line]:
    rows = []
    for node in status.nodes[:shown]:
        bad = sum(node.failures.values())
        causes = ", ".join(f"{count:,} {cause}" for cause, count in node.failures.items())
        parts = [
            f"{node.live} live" if node.live else "",
            f"{node.silent} silent or gone" if node.silent else "",
            f"{_count(bad, 'attempt')} without a result ({causes})" if bad else "",
        ]
        rows.append(Line(cut(f"  {node.node}: {', '.join(filter(None, parts))}", width)))
    if rows:
        rows.insert(0, Line("nodes:"))
    return _rest(rows, len(status.nodes), shown, "nodes")


def _notes(status: Status, width: int) -> list[Line]:
    return [Line(row, "warn") for note in status.notes for row in wrap(note, width)]


def _next(status: Status, width: int, run: str) -> list[Line]:
    if not status.next:
        return []
    words = status.next.replace("RUN", run)
    # A command is not cut: it would be another one.
    return [Line(row, "dim") for row in wrap(f"next: {words}", width)]
