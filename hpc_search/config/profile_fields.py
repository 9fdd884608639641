"""Reads the fields of a profile, each by its dotted path; every text is checked against a pattern.

A value that these readers let pass can add neither a line nor an option to a script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import Book, shown, words
from hpc_search.config.reader import Cursor, each, nullable
from hpc_search.config.slices import CHECKS, KINDS, items

Reader = Callable[[Cursor], object]

#: A ``time`` that leaves the walltime to the partition's default.
SITE_TIME: Final = -1
#: The short form of ``slice.request.gres``.
GRES: Final = "slice.request.gres"

_ONE_NODE: Final = (
    "a trial runs on one node: for several of its GPUs write gres: gpu:4 and start the trial by torchrun; "
    "many trials at once are many `workers`"
)
#: What people write, and what to write here instead.
INSTEAD: Final[dict[str, str]] = {
    **dict.fromkeys(("nodes", "ntasks", "ntasks_per_node", "ntasks-per-node", "tasks"), _ONE_NODE),
    **dict.fromkeys(("gpus", "gpus_per_node", "gpus-per-node", "gpu"), "write gres: gpu:1"),
    **dict.fromkeys(("queue",), "write partition"),
    **dict.fromkeys(("walltime", "time_limit", "timeout"), "write time"),
    **dict.fromkeys(("memory", "mem_gb", "ram"), "write mem: 4G"),
    **dict.fromkeys(("cpus_per_task", "cpus-per-task", "cores"), "write cpus"),
    **dict.fromkeys(("array_parallelism", "max_parallel"), "write throttle"),
    **dict.fromkeys(("nodelist", "nice", "exclusive", "mail-type", "gpus-per-task"), "it belongs into extra"),
}

#: sbatch options that `extra` may not set, and what to do instead ("" = hpc_search sets it).
OWNED: Final[dict[str, str]] = {
    **{
        key: f"use the key {key!r} of the profile"
        for key in (
            *("partition", "account", "qos", "constraint", "reservation", "exclude"),
            *("time", "mem", "gres", "requeue"),
        )
    },
    "time-min": "use the key 'time_min' of the profile",
    "cpus-per-task": "use the key 'cpus' of the profile",
    "cpus-per-gpu": "use the key 'cpus' of the profile",
    "no-requeue": "use the key 'requeue' of the profile",
    "clusters": "log in to that cluster and submit there",
    **dict.fromkeys(
        ("nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-socket"),
        _ONE_NODE,
    ),
    # Other names that sbatch takes for them.
    **dict.fromkeys(("tasks", "tasks-per-node"), _ONE_NODE),
    **dict.fromkeys(("array", "job-name", "output", "error", "input", "open-mode", "parsable", "wrap"), ""),
    **dict.fromkeys(("export", "export-file", "signal", "chdir", "wait", "test-only", "quiet"), ""),
    **dict.fromkeys(("get-user-env", "uid", "gid", "help", "usage", "version", "comment", "verbose"), ""),
}

_TIME: Final = re.compile(
    r"(?:([0-9]{1,4})-)?([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])|([0-9]{1,4})-([0-9]{1,2})"
)
_MINUTES_WORDS: Final = "minutes as a number, or 2:00:00, 1-00:00:00, 30 min"
_TIME_WORDS: Final = f"auto (learned from the trials), site (the partition's default), {_MINUTES_WORDS}"
_MEM: Final = re.compile(r"[0-9]{1,9}[KMGT]")
_NEARLY_MEM: Final = re.compile(r"([0-9]{1,9}) *([KMGT])(?:i?B?s?|igabytes?)", re.IGNORECASE)
_NAMES: Final = re.compile(r"[A-Za-z0-9_.,@+-]{1,200}")
_CONSTRAINT: Final = re.compile(r"[A-Za-z0-9_.,:=&|*()\[\]-]{1,200}")
_NODES: Final = re.compile(r"[A-Za-z0-9_.,\[\]-]{1,1000}")
_MODULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/:-]{0,199}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OPTION: Final = re.compile(r"[a-z][a-z0-9-]{1,63}")
_VALUE: Final = re.compile(r"[A-Za-z0-9_.:,=/@+*%&|()\[\]-]{1,200}")
_GRES: Final = re.compile(r"[A-Za-z0-9_.:,=/@+-]{1,128}")
_GRES_WORDS: Final = "up to 128 letters, digits and _ . : , = / @ + -, such as gpu:1"
#: A variable of the shell, which nothing would expand here.
_EXPANDED: Final = re.compile(r"\$[A-Za-z_{(]")
#: Most minutes of a job: a year.
_MOST_MINUTES: Final = 366 * 24 * 60
_OF_SITE: Final = "letters, digits and _ . , @ + -"


def is_name(text: str) -> bool:
    """Return whether *text* can be the name of a profile."""
    return bool(_NAMES.fullmatch(text))


class Given(NamedTuple):
    """A value that was read, and the line where it stands."""

    value: object
    line: int


def read_fields(cursor: Cursor, within: str = "") -> dict[str, Given] | None:
    """Return what a mapping gives, by dotted path; *within* is its own path, with a dot.

    None where it is no mapping. What is wrong goes to the cursor's book and is left out.
    """
    children = dict.fromkeys(
        path.removeprefix(within).partition(".")[0] for path in FIELDS if path.startswith(within)
    )
    what = "" if within else "a mapping with partition, time, mem, cpus, workers"
    section = cursor.keys(children, what=what, instead={} if within else INSTEAD)
    if section is None:
        return None
    found: dict[str, Given] = {}
    for key, value in section.items():
        path = within + key
        if path in FIELDS:
            found |= read_field(path, value)
        else:
            found |= read_fields(value, f"{path}.") or {}
    return found


def read_field(path: str, cursor: Cursor) -> dict[str, Given]:
    """Return the one field at *path*, nothing where its value is wrong; null is a value of some."""
    before = len(cursor.book)
    value = FIELDS[path](cursor)
    return {path: Given(value, cursor.line)} if len(cursor.book) == before else {}


def owned_option(name: str) -> str:
    """Return the option of ours that sbatch takes *name* for, a beginning as well; "" for none."""
    return name if name in OWNED else next((one for one in OWNED if name and one.startswith(name)), "")


def read_option(key: Scalar, cursor: Cursor) -> str | bool | None:
    """Return the value of one sbatch option; true stands for an option without a value."""
    owned = owned_option(key.text)
    if owned or not _OPTION.fullmatch(key.text):
        cursor.book.add(
            key.line,
            cursor.path,
            "is no option for `extra`",
            found=shown(key.text),
            expected="a long option of sbatch without its dashes, such as nice",
            hint=OWNED.get(owned, "") or (f"hpc_search sets {owned}" if owned else ""),
        )
        return None
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if value is True:
        return True
    if type(value) is int and isinstance(cursor.node, Scalar):
        cursor = Cursor(cursor.book, Scalar(cursor.line, cursor.node.text, cursor.node.text), cursor.path)
    return cursor.matching(
        _VALUE, "a value of letters, digits and _ . : , = / @ + * % & | ( ) [ ] -, or true"
    )


def _minutes(cursor: Cursor, expected: str) -> int | None:
    """Return whole minutes, rounded up; SLURM's MM:SS is refused, since it is mistaken for hours."""
    text = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if isinstance(text, int) and not isinstance(text, bool):
        total = text
    elif isinstance(text, str) and (match := _TIME.fullmatch(text)):
        days, hours, minutes, seconds, only_days, only_hours = (int(part or 0) for part in match.groups())
        total = (days + only_days) * 1440 + (hours + only_hours) * 60 + minutes + (seconds > 0)
    elif isinstance(text, str) and re.fullmatch(r"[0-9.]+ *[A-Za-z]+", text):
        length = cursor.seconds(number_of="minutes", zero=True)
        if length is None:
            return None
        total = -int(-length // 60)
    else:
        minutes_and_seconds = isinstance(text, str) and ":" in text
        hint = "SLURM takes 10:30 for minutes and seconds; write 0:10:30 or 10:30:00"
        cursor.add("is not a length of time", expected=expected, hint=hint if minutes_and_seconds else "")
        return None
    if not 1 <= total <= _MOST_MINUTES:
        cursor.add("is out of range", expected=f"{expected}; 1 to {_MOST_MINUTES:,} minutes")
        return None
    return total


def _time(cursor: Cursor) -> int | None:
    word = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if word in ("auto", "site"):
        return 0 if word == "auto" else SITE_TIME
    return _minutes(cursor, _TIME_WORDS)


def _time_min(cursor: Cursor) -> int | None:
    none = isinstance(cursor.node, Scalar) and cursor.node.value == 0 and cursor.node.value is not False
    return 0 if none else _minutes(cursor, f"0 (none), {_MINUTES_WORDS}")


def _empty(cursor: Cursor) -> bool:
    return isinstance(cursor.node, Scalar) and cursor.node.value == ""


def _pattern(pattern: re.Pattern[str], what: str, *, empty: bool = True) -> Callable[[Cursor], str | None]:
    return lambda cursor: "" if empty and _empty(cursor) else cursor.matching(pattern, what)


def _mem(cursor: Cursor) -> str | None:
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    what = "a whole number with K, M, G or T, such as 4G or 500M"
    if type(value) is int:
        cursor.add("has no unit", expected=what, hint=f"write {value}M for megabytes, {value}G for gigabytes")
        return None
    if isinstance(value, str) and not _MEM.fullmatch(value) and (nearly := _NEARLY_MEM.fullmatch(value)):
        cursor.add("is not in SLURM's form", expected=what, hint=f"write {nearly[1]}{nearly[2].upper()}")
        return None
    return "" if _empty(cursor) else cursor.matching(_MEM, what)


def _gres(cursor: Cursor) -> str | None:
    value = cursor.node.value if isinstance(cursor.node, Scalar) else None
    text = value if isinstance(value, str) else ""
    if re.search(r"\s", text.strip()) or text != text.strip():
        joined = ":".join(re.sub(r"\s*([:,=])\s*", r"\1", text).split())
        hint = f"write {joined}" if _GRES.fullmatch(joined) else "write gpu:h200:1"
        cursor.add("has a space", expected="SLURM's gres text has no spaces: gpu:h200:1", hint=hint)
        return None
    nothing = "" in re.split("[,:=]", text) or any(item.number == 0 for item in items(text))
    if text and (text == "help" or nothing):
        cursor.add("asks for nothing", expected="NAME, NAME:COUNT or NAME:TYPE:COUNT, joined by commas")
        return None
    return "" if _empty(cursor) else cursor.matching(_GRES, _GRES_WORDS)


def _list(reader: Callable[[Cursor], str | None], what: str) -> Callable[[Cursor], tuple[str, ...] | None]:
    def read(cursor: Cursor) -> tuple[str, ...] | None:
        entries = cursor.items(what, empty=True)
        return None if entries is None else tuple(each(entries, reader))

    return read


def _extra(cursor: Cursor) -> dict[str, str | bool] | None:
    entries = cursor.entries("a mapping from sbatch's long options to values")
    if entries is None:
        return None
    read = {key.text: read_option(key, value) for key, value in entries}
    return {key: value for key, value in read.items() if value is not None}


def _literal(cursor: Cursor, what: str) -> str | None:
    text = cursor.text(what, most=1000)
    if text is not None and _EXPANDED.search(text):
        cursor.add("has a variable, and nothing expands it here", expected=f"{what} without $")
        return None
    return text


def _place(what: str, *, name: bool = False) -> Callable[[Cursor], str | None]:
    """Return a reader of an absolute path (~ is the home), or, with *name*, of a bare name as well."""
    expected = f"{what} that begins with / or ~/" + (", or a name without /" if name else "")

    def read(cursor: Cursor) -> str | None:
        text = "" if _empty(cursor) else _literal(cursor, expected)
        if not text or text.startswith(("/", "~/")) or (name and "/" not in text and text[0] not in "-~"):
            return text
        cursor.add("is relative, and tasks start in another directory", expected=expected)
        return None

    return read


def _range(cursor: Cursor) -> tuple[float, float] | None:
    entries = cursor.items("a list of the least and the most GiB, such as [9, 11]")
    if entries is None:
        return None
    numbers = list(each(entries, lambda entry: entry.number("GiB as a number")))
    if len(entries) != 2 or (len(numbers) == 2 and not 0 <= numbers[0] <= numbers[1]):
        cursor.add("is no range", expected="the least and the most GiB, such as [9, 11]")
        return None
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _checks(cursor: Cursor) -> tuple[str, ...] | None:
    return _list(lambda entry: entry.one_of(CHECKS), f"a list of {words(CHECKS, 'or')}")(cursor)


def _number(low: float, high: float, what: str) -> Callable[[Cursor], float | None]:
    def read(cursor: Cursor) -> float | None:
        value = cursor.number(what)
        if value is not None and not low <= value <= high:
            cursor.add("is out of range", expected=what)
            return None
        return value

    return read


def _integer(low: int, high: int) -> Reader:
    return lambda cursor: cursor.integer(low, high)


def _word(*known: str) -> Reader:
    return lambda cursor: cursor.one_of(known)


_TEXTS: Final[dict[str, Reader]] = {
    "name": _pattern(_NAMES, _OF_SITE),
    **{key: _pattern(_NAMES, _OF_SITE) for key in ("partition", "account", "qos", "reservation")},
    "constraint": _pattern(_CONSTRAINT, "letters, digits and _ . , : = & | * ( ) [ ] -"),
    "mem": _mem,
    "gres": _gres,
    GRES: _gres,
    "slice.expect.name": lambda c: "" if _empty(c) else c.text("a part of the device's name"),
    "exclude": _pattern(_NODES, "node names such as node[01-04],node09"),
    "python": _place("an interpreter", name=True),
    "conda": _place("the prefix of a conda environment", name=True),
    "venv": _place("the directory of a virtual environment"),
}
#: Fields whose value on the command line is the text itself, not YAML.
TEXTS: Final = frozenset(_TEXTS)
#: The reader of every field, by dotted path; `gres` is the short form of `slice.request.gres`.
FIELDS: Final[Mapping[str, Reader]] = {
    **_TEXTS,
    "time": _time,
    "time_min": _time_min,
    "cpus": _integer(1, 65_536),
    "throttle": _integer(0, 1_000_000),
    "workers": _integer(1, 1_000_000),
    "modules": _list(_pattern(_MODULE, "a module such as cuda/12.4", empty=False), "a list of modules"),
    "prolog": _list(lambda c: c.text("one shell command", most=2000), "a list of shell commands"),
    "environment": _list(_pattern(_VARIABLE, "the name of a variable", empty=False), "a list of names"),
    "container": _list(lambda c: _literal(c, "one argument"), "a list of arguments"),
    "signal_delay": _integer(0, 65_535),
    **dict.fromkeys(("max_array", "max_submit", "max_jobs"), _integer(0, 10_000_000)),
    **dict.fromkeys(("requeue", "nodes_submit"), Cursor.boolean),
    "on_mismatch": _word("requeue", "warn", "fail"),
    "slice.kind": _word(*KINDS),
    "slice.expect.count": _integer(0, 64),
    "slice.expect.memory_gib": nullable(_range),
    "slice.expect.sm_min": _integer(0, 100_000),
    "slice.expect.free_gib": _number(0, 1e6, "GiB, 0 or more"),
    "slice.expect.checks": _checks,
    "slice.limits.memory_fraction": _number(0, 1, "a share of the memory between 0 and 1"),
    "slice.limits.threads_percent": _integer(0, 100),
    "slice.pack.workers": _integer(1, 64),
    "slice.pack.mps": _word("auto", "never", "always"),
    "slice.pack.stagger": lambda c: c.seconds(zero=True),
    "extra": _extra,
}


def add_unknown(book: Book, key: str, text: str, near: str) -> None:
    """Note in *book* that the assignment *text* names no field *key*; *near* is a guess at what was meant."""
    hint = INSTEAD.get(key, "") or near or f"the keys are: {', '.join(FIELDS)}, extra.OPTION"
    book.add(0, key, "is no key of a profile", found=shown(text), expected="KEY=VALUE", hint=hint)
