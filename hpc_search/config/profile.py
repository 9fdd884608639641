"""The profile of a site: what a submission asks SLURM for. Every text is checked against a pattern.

Nothing in a profile can add an option or a line to a script, except `prolog`, whose lines are the
user's own shell commands and are shown by `submit --dry-run`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import xxhash

from hpc_search.config.dump import block
from hpc_search.config.files import open_keys, read_bytes
from hpc_search.config.nodes import Scalar, parse
from hpc_search.config.problems import Book, near_miss, shown
from hpc_search.config.reader import Cursor, each, fields
from hpc_search.config.slices import Slice, kind_of, read_gres, read_slice
from hpc_search.errors import UsageError

#: Before the checksum of the profile.yaml that a run keeps.
_SIGNED: Final = b"# written by submit; a changed profile is given by --profile FILE; xxh3 "


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What each task gets. Empty texts and zeros leave an option to the site's default.

    ``time`` and ``time_min`` are minutes, ``signal_delay`` is seconds, ``cpus`` is per worker,
    ``throttle`` the most tasks that run at once (0 = no limit), ``workers`` the number of workers,
    ``environment`` names of variables to pass on, ``python`` the interpreter of the tasks (empty =
    the one that submits), ``extra`` sbatch options by their long names (true = without a value).
    A ``time`` of 0 is learned from the trials, `SITE_TIME` is the partition's. ``max_array``,
    ``max_submit`` and ``max_jobs`` of 0 are read from the site. ``nodes_submit``: whether a worker may
    call sbatch. ``container`` is the argv prefix that starts a container.
    """

    name: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    time: int = 0
    time_min: int = 0
    mem: str = ""
    cpus: int = 1
    slice: Slice = Slice()
    throttle: int = 0
    workers: int = 8
    exclude: str = ""
    modules: tuple[str, ...] = ()
    prolog: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    conda: str = ""
    venv: str = ""
    container: tuple[str, ...] = ()
    python: str = ""
    signal_delay: int = 120
    max_array: int = 0
    max_submit: int = 0
    max_jobs: int = 0
    requeue: bool = True
    nodes_submit: bool = True
    on_mismatch: Literal["requeue", "warn", "fail"] = "requeue"
    extra: dict[str, str | bool] = {}

    @property
    def gres(self) -> str:
        """What the slice asks SLURM for."""
        return self.slice.request.gres


#: A ``time`` that leaves the walltime to the partition's default.
SITE_TIME: Final = -1


#: sbatch options that `extra` may not set, and what to use instead ("" = hpc_search sets it).
OWNED: Final[dict[str, str]] = {
    **{key: key for key in ("partition", "account", "qos", "constraint", "reservation", "exclude")},
    **{key: key for key in ("time", "mem", "gres", "requeue")},
    "time-min": "time_min",
    "cpus-per-task": "cpus",
    "no-requeue": "requeue",
    **dict.fromkeys(("array", "job-name", "output", "error", "input", "open-mode", "parsable", "wrap"), ""),
    **dict.fromkeys(("export", "export-file", "signal", "chdir", "wait", "test-only", "ntasks"), ""),
    **dict.fromkeys(("get-user-env", "uid", "gid", "help", "usage", "version", "comment"), ""),
}

_TIME: Final = re.compile(
    r"(?:([0-9]{1,4})-)?([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])|([0-9]{1,4})-([0-9]{1,2})"
)
_TIME_WORDS: Final = "minutes as a number, or a time such as 2:00:00, 1-00:00:00, 30 min"
_MEM: Final = re.compile(r"[0-9]{1,9}[KMGT]")
_NAMES: Final = re.compile(r"[A-Za-z0-9_.,@+-]{1,200}")
_CONSTRAINT: Final = re.compile(r"[A-Za-z0-9_.,:=&|*()\[\]-]{1,200}")
_NODES: Final = re.compile(r"[A-Za-z0-9_.,\[\]-]{1,1000}")
_MODULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/:-]{0,199}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OPTION: Final = re.compile(r"[a-z][a-z0-9-]{1,63}")
_VALUE: Final = re.compile(r"[A-Za-z0-9_.:,=/@+*%&|()\[\]-]{1,200}")
#: Most minutes of a job: a year.
_MOST_MINUTES: Final = 366 * 24 * 60


def load_profile(path: Path) -> Profile:
    """Return the profile in the file at *path*; without a name it is called like the file.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem found.
    """
    profile = parse_profile(read_bytes(path, "profile"), str(path))
    if profile.name or not _NAMES.fullmatch(path.stem):
        return profile
    return msgspec.structs.replace(profile, name=path.stem)


def parse_profile(data: bytes, file: str) -> Profile:
    """Return the profile in *data*; *file* is its name in messages.

    Raises:
        ConfigError: With every problem found.
    """
    book = Book(file)
    _, section = open_keys(data, book, _FIELDS, what="a mapping with partition, time, mem, cpus, workers")
    given = _with_gres(fields(section, _FIELDS))
    _in_order(Profile(**given), book, section)
    book.close()
    return Profile(**given)


def profile_with(profile: Profile, assignments: Sequence[str]) -> Profile:
    """Return *profile* with ``key=value`` *assignments*, the last of a key wins.

    A value is read as in the file; ``extra.nice=100`` sets one option.

    Raises:
        UsageError: An assignment has no ``=``, or names no field.
        ConfigError: With every value that is wrong.
    """
    book = Book("--set", lines=False)
    changes: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        key, dot, option = name.strip().partition(".")
        key = key.replace("-", "_")
        if not equals or key not in _FIELDS or (dot and key != "extra"):
            raise _no_assignment(text, key)
        before = {**msgspec.structs.asdict(profile), **changes}
        made = _assigned(book, before, key, value, option if dot else None)
        changes |= _with_gres({"slice": before["slice"], **made} if "gres" in made else made)
    changed = msgspec.structs.replace(profile, **changes)
    _in_order(changed, book, {})
    book.close()
    return changed


def dump_profile(profile: Profile) -> str:
    """Return the text of profile.yaml, which reads back to an equal profile."""
    values = msgspec.to_builtins(profile)
    values["slice"]["expect"] = {k: v for k, v in values["slice"]["expect"].items() if v is not None}
    values["time"] = {0: "auto", SITE_TIME: "site"}.get(profile.time, profile.time)
    return block(values)


def signed_profile(profile: Profile) -> bytes:
    """Return the profile.yaml that a run keeps: its text, and a comment with the checksum of that."""
    text = dump_profile(profile).encode()
    return text + _SIGNED + xxhash.xxh3_64_hexdigest(text).encode() + b"\n"


def signature_holds(data: bytes) -> bool:
    """Return whether *data* is a profile.yaml that a run keeps, unchanged."""
    text, mark, digest = data.rpartition(_SIGNED)
    return bool(mark) and digest == xxhash.xxh3_64_hexdigest(text).encode() + b"\n"


def _no_assignment(text: str, key: str) -> UsageError:
    near = "" if key in _FIELDS else near_miss(key, _FIELDS)
    message = f"--set {shown(text)}: expected key=value with a key of the profile, or extra.OPTION=value"
    return UsageError(message, hint=near or f"the keys are: {', '.join(_FIELDS)}")


def _assigned(
    book: Book, current: dict[str, Any], key: str, value: str, option: str | None
) -> dict[str, Any]:
    """Return the one field that ``key=value`` or ``extra.option=value`` changes; none where it is wrong."""
    if option is not None:
        setting = _option(Scalar(0, option, option), _typed(book, f"extra.{option}", value))
        return {} if setting is None else {"extra": {**current["extra"], option: setting}}
    cursor = _typed(book, key, value)
    if key in _TEXTS:
        cursor = Cursor(book, Scalar(0, value, value, plain=False), key)
    read = _FIELDS[key](cursor)
    return {} if read is None else {key: read}


def _typed(book: Book, path: str, value: str) -> Cursor:
    """Return *value* as YAML reads it; a text that is no YAML stands for itself."""
    quiet = Book("--set")
    try:
        node = parse(value.encode("utf-8", "replace"), quiet)
    except UsageError:
        node = Scalar(0, value, value, plain=False)
    return Cursor(book, node, path)


def _in_order(profile: Profile, book: Book, section: dict[str, Cursor]) -> None:
    if not (profile.time > 0 and profile.time_min > profile.time):
        return
    line = section["time_min"].line if "time_min" in section else 0
    found = f"{profile.time_min} and {profile.time} minutes"
    book.add(line, "time_min", "is longer than time", found=found, expected="time_min of time or less")


def _minutes(cursor: Cursor) -> int | None:
    """Return whole minutes, rounded up; SLURM's MM:SS is refused, since it is mistaken for hours."""
    text = cursor.node.value if isinstance(cursor.node, Scalar) else None
    if isinstance(text, int) and not isinstance(text, bool):
        return cursor.integer(1, _MOST_MINUTES)
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match:
        days, hours, minutes, seconds, only_days, only_hours = (int(part or 0) for part in match.groups())
        total = (days + only_days) * 1440 + (hours + only_hours) * 60 + minutes + (seconds > 0)
    elif isinstance(text, str) and re.fullmatch(r"[0-9.]+ *[A-Za-z]+", text):
        length = cursor.seconds(number_of="minutes")
        if length is None:
            return None
        total = -int(-length // 60)
    else:
        hint = (
            "SLURM takes 10:30 for minutes and seconds; write 0:10:30 or 10:30:00"
            if text and ":" in str(text)
            else ""
        )
        cursor.add("is not a length of time", expected=_TIME_WORDS, hint=hint)
        return None
    if not 1 <= total <= _MOST_MINUTES:
        cursor.add("is out of range", expected=f"1 to {_MOST_MINUTES} minutes")
        return None
    return total


def _pattern(pattern: re.Pattern[str], what: str, *, empty: bool = True) -> Callable[[Cursor], str | None]:
    def read(cursor: Cursor) -> str | None:
        node = cursor.node
        if empty and isinstance(node, Scalar) and node.value == "":
            return ""
        return cursor.matching(pattern, what)

    return read


def _mem(cursor: Cursor) -> str | None:
    node = cursor.node
    if isinstance(node, Scalar) and type(node.value) is int:
        cursor.add("has no unit", expected="such as 4G or 500M", hint=f"write {node.text}M for megabytes")
        return None
    return _pattern(_MEM, "a number with K, M, G or T, such as 4G or 500M")(cursor)


def _list(reader: Callable[[Cursor], str | None], what: str) -> Callable[[Cursor], tuple[str, ...] | None]:
    def read(cursor: Cursor) -> tuple[str, ...] | None:
        items = cursor.items(what, empty=True)
        return None if items is None else tuple(each(items, reader))

    return read


def _shell_line(cursor: Cursor) -> str | None:
    return cursor.text("one shell command", most=2000)


def _extra(cursor: Cursor) -> dict[str, str | bool] | None:
    entries = cursor.entries("a mapping from sbatch's long options to values")
    if entries is None:
        return None
    read = {key.text: _option(key, value) for key, value in entries}
    return {key: value for key, value in read.items() if value is not None}


def _option(key: Scalar, cursor: Cursor) -> str | bool | None:
    """Return the value of one sbatch option; true stands for an option without a value."""
    if not _OPTION.fullmatch(key.text) or key.text in OWNED:
        own = OWNED.get(key.text)
        hint = f"use the key {own!r} of the profile" if own else "hpc_search sets it" if own == "" else ""
        expected = "a long option of sbatch without its dashes, such as nice"
        cursor.book.add(
            key.line,
            cursor.path,
            "is no option for `extra`",
            found=shown(key.text),
            expected=expected,
            hint=hint,
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


def _path(cursor: Cursor) -> str | None:
    node = cursor.node
    return "" if isinstance(node, Scalar) and node.value == "" else cursor.text("a path", most=1000)


def _time(cursor: Cursor) -> int | None:
    word = cursor.node.value if isinstance(cursor.node, Scalar) else None
    return {"auto": 0, "site": SITE_TIME}[str(word)] if word in ("auto", "site") else _minutes(cursor)


def _time_min(cursor: Cursor) -> int | None:
    none = isinstance(cursor.node, Scalar) and cursor.node.value == 0
    return 0 if none else _minutes(cursor)


def _with_gres(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the short form ``gres`` put into the slice's request."""
    gres = given.pop("gres", None)
    if gres is None:
        return given
    block: Slice = given.get("slice", Slice())
    request = msgspec.structs.replace(block.request, gres=gres)
    kind = kind_of(gres, block.pack.workers)
    return {**given, "slice": msgspec.structs.replace(block, request=request, kind=kind)}


_OF_SITE: Final = "letters, digits and _ . , @ + -"
_TEXTS: Final[dict[str, Callable[[Cursor], object]]] = {
    "name": _pattern(_NAMES, _OF_SITE),
    **{key: _pattern(_NAMES, _OF_SITE) for key in ("partition", "account", "qos", "reservation")},
    "constraint": _pattern(_CONSTRAINT, "letters, digits and _ . , : = & | * ( ) [ ] -"),
    "mem": _mem,
    "gres": read_gres,
    "exclude": _pattern(_NODES, "node names such as node[01-04],node09"),
    **dict.fromkeys(("python", "conda", "venv"), _path),
}
_FIELDS: Final[dict[str, Callable[[Cursor], object]]] = {
    **_TEXTS,
    "time": _time,
    "time_min": _time_min,
    "cpus": lambda c: c.integer(1, 65_536),
    "throttle": lambda c: c.integer(0, 1_000_000),
    "workers": lambda c: c.integer(1, 1_000_000),
    "modules": _list(_pattern(_MODULE, "a module such as cuda/12.4", empty=False), "a list of modules"),
    "prolog": _list(_shell_line, "a list of shell commands"),
    "environment": _list(_pattern(_VARIABLE, "the name of a variable", empty=False), "a list of names"),
    "signal_delay": lambda c: c.integer(0, 65_535),
    **dict.fromkeys(("max_array", "max_submit", "max_jobs"), lambda c: c.integer(0, 10_000_000)),
    **dict.fromkeys(("requeue", "nodes_submit"), lambda c: c.boolean()),
    "on_mismatch": lambda c: c.one_of(("requeue", "warn", "fail")),
    "container": _list(lambda c: c.text("one argument", most=1000), "a list of arguments"),
    "slice": read_slice,
    "extra": _extra,
}
