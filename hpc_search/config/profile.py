"""The profile of a site: what a submission asks SLURM for.

Nothing in a profile can add an option or a line to a script, except `prolog`, whose lines are the
user's own shell commands and are shown by `submit --dry-run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import xxhash

from hpc_search.config.files import read_bytes
from hpc_search.config.nodes import Node, Scalar, parse
from hpc_search.config.problems import Book, near_miss, shown
from hpc_search.config.profile_checks import conflicts
from hpc_search.config.profile_fields import (
    FIELDS,
    GRES,
    SITE_TIME,
    TEXTS,
    Given,
    add_unknown,
    is_name,
    read_field,
    read_fields,
    read_option,
)
from hpc_search.config.reader import Cursor
from hpc_search.config.slices import Kind, Slice, kind_of
from hpc_search.errors import UsageError

__all__ = [
    "SITE_TIME",
    "Profile",
    "dump_profile",
    "load_profile",
    "parse_profile",
    "profile_with",
    "signature_holds",
    "signed_profile",
]

T = TypeVar("T", bound=msgspec.Struct)

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


def load_profile(path: Path) -> Profile:
    """Return the profile in the file at *path*; without a name it is called like the file.

    Raises:
        UsageError: The file cannot be read.
        ConfigError: With every problem found.
    """
    profile = parse_profile(read_bytes(path, "profile"), str(path))
    if profile.name or not is_name(path.stem):
        return profile
    return msgspec.structs.replace(profile, name=path.stem)


def parse_profile(data: bytes, file: str) -> Profile:
    """Return the profile in *data*; *file* is its name in messages.

    Raises:
        ConfigError: With every problem found.
    """
    book = Book(file)
    found = read_fields(Cursor(book, parse(data, book))) or {}
    if "gres" in found and GRES in found and found["gres"].value != found[GRES].value:
        both = f"{found['gres'].value!r} and {found[GRES].value!r}"
        hint = f"gres is short for {GRES}; write one of them"
        book.add(found["gres"].line, "gres", f"contradicts {GRES}", found=both, hint=hint)
    profile = _changed(Profile(), found)
    _check(profile, book, found)
    return profile


def profile_with(profile: Profile, assignments: Sequence[str]) -> Profile:
    """Return *profile* with ``key=value`` *assignments*, the last of a key wins.

    A key is a dotted path, ``slice.pack.workers=4``; ``extra.nice=100`` sets one option. A value is read
    as in the file.

    Raises:
        ConfigError: With every assignment that is wrong.
    """
    book = Book("--set", lines=False)
    found: dict[str, Given] = {}
    for text in assignments:
        # An alias that is given later wins as well.
        for key, given in _assigned(book, text).items():
            found.pop(key, None)
            found[key] = given
    changed = _changed(profile, found)
    _check(changed, book, found)
    return changed


def dump_profile(profile: Profile) -> str:
    """Return the text of profile.yaml, which reads back to an equal profile."""
    values = msgspec.to_builtins(profile)
    values["slice"]["expect"] = {k: v for k, v in values["slice"]["expect"].items() if v is not None}
    values["time"] = {0: "auto", SITE_TIME: "site"}.get(profile.time, profile.time)
    from hpc_search.config.dump import block

    return block(values)


def signed_profile(profile: Profile) -> bytes:
    """Return the profile.yaml that a run keeps: its text, and a comment with the checksum of that."""
    text = dump_profile(profile).encode()
    return text + _SIGNED + xxhash.xxh3_64_hexdigest(text).encode() + b"\n"


def signature_holds(data: bytes) -> bool:
    """Return whether *data* is a profile.yaml that a run keeps, unchanged."""
    text, mark, digest = data.rpartition(_SIGNED)
    return bool(mark) and digest == xxhash.xxh3_64_hexdigest(text).encode() + b"\n"


def _assigned(book: Book, text: str) -> dict[str, Given]:
    """Return what the assignment *text* gives, by dotted path; nothing where it is wrong."""
    name, equals, value = text.partition("=")
    head, dot, option = name.strip().partition(".")
    key = head.replace("-", "_")
    if not equals:
        key, _, rest = name.partition(":")
        hint = f"write --set {key.strip()}={rest.strip() or 'VALUE'}"
        book.add(0, key, "is no assignment", found=shown(text), expected="KEY=VALUE", hint=hint)
        return {}
    if key == "extra" and dot:
        setting = read_option(Scalar(0, option, option), Cursor(book, _node(value), f"extra.{option}"))
        return {} if setting is None else {f"extra.{option}": Given(setting, 0)}
    path = name.strip().replace("-", "_")
    if path in TEXTS:
        return read_field(path, Cursor(book, Scalar(0, value, value, plain=False), path))
    if path in FIELDS:
        return read_field(path, Cursor(book, _node(value), path))
    if any(known.startswith(f"{path}.") for known in FIELDS):
        return read_fields(Cursor(book, _node(value), path), f"{path}.") or {}
    add_unknown(book, path, text, near_miss(path, FIELDS))
    return {}


def _node(value: str) -> Node:
    """Return *value* as YAML reads it; a text that is no YAML stands for itself."""
    try:
        return parse(value.encode("utf-8", "replace"), Book("--set"))
    except UsageError:
        return Scalar(0, value, value, plain=False)


def _changed(profile: Profile, found: Mapping[str, Given]) -> Profile:
    """Return *profile* with the fields *found*; the kind of its slice follows its request if not said."""
    values = {GRES if path == "gres" else path: given.value for path, given in found.items()}
    changed: Profile = _replaced(profile, values)
    if "slice.kind" in values or not values.keys() & {GRES, "slice.pack.workers"}:
        return changed
    return _replaced(changed, {"slice.kind": _derived(changed.slice, asked=GRES in values)})


def _derived(block: Slice, *, asked: bool) -> Kind:
    """Return the kind of *block*, whose request was *asked* anew, or whose workers were changed."""
    if asked or block.kind not in ("whole", "mig", "packed"):
        return kind_of(block.request.gres, block.pack.workers)
    # A GPU by another name than gpu.
    by_request = kind_of(block.request.gres)
    alone = by_request if by_request != "cpu" else "whole"
    return "packed" if block.pack.workers > 1 else alone


def _replaced(struct: T, values: Mapping[str, object]) -> T:
    """Return *struct* with *values* by dotted path."""
    changes: dict[str, Any] = {path: value for path, value in values.items() if "." not in path}
    for head in dict.fromkeys(path.partition(".")[0] for path in values if "." in path):
        below = {
            path.removeprefix(f"{head}."): value
            for path, value in values.items()
            if path.startswith(f"{head}.")
        }
        inner = changes.get(head, getattr(struct, head))
        changes[head] = {**inner, **below} if isinstance(inner, dict) else _replaced(inner, below)
    return msgspec.structs.replace(struct, **changes)


def _check(profile: Profile, book: Book, found: Mapping[str, Given]) -> None:
    """Raise ConfigError where *book* has problems or fields of *profile* contradict.

    What contradicts only because a field is wrong, and left out, is not told.
    """
    kind_said = "slice.kind" in found or not found.keys() & {GRES, "gres"}
    for one in conflicts(profile, kind_said=kind_said):
        paths = tuple(path for name in one.paths for path in ((name, "gres") if name == GRES else (name,)))
        if any(map(book.tells, paths)):
            continue
        path = next((path for path in paths if path in found), paths[0])
        line = found[path].line if path in found else 0
        book.add(line, path, one.message, found=one.found, expected=one.expected, hint=one.hint)
    book.close()
