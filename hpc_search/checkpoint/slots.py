"""Two slots an attempt: a save never touches the newest good one; a restore takes the newest whole one."""

from __future__ import annotations

import operator
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hpc_search import durable
from hpc_search.checkpoint import directory, file, tree
from hpc_search.checkpoint.file import Meta
from hpc_search.checkpoint.tree import Encoded
from hpc_search.errors import DamagedError, HpcSearchError, UsageError
from hpc_search.layout import Layout

#: Steps are below this: the index holds them in 32 bits.
MAX_STEP: Final = 2**32
_SLOT: Final = re.compile(r"a(\d+)-([0-9a-f]{16})\.([01])\.h5")
#: What a path of an object in a checkpoint begins with: its row in `objects` of the `state` of the trial.
_AROUND: Final = re.compile(r"state\.state\.objects(?:\.([A-Za-z_][\w.]*?)|\['(.{1,80}?)'\])\[1\]")
#: What looks at a state and its history, and raises ValueError where they are not what they should be.
Check = Callable[[Mapping[str, Any], Any], None]


class Superseded(HpcSearchError):  # noqa: N818 - a fact about the attempt, nothing went wrong
    """A higher attempt has taken the trial over, or the trial is done: this attempt shall stop."""


def step_of(call: str, value: Any) -> int:
    """Return the step *value* that was given to *call*.

    Raises:
        UsageError: It is no whole number, or none that the index can hold.
    """
    try:
        step = operator.index(value)
    except TypeError:
        raise UsageError(f"{call}: the step is {value!r}, not a whole number") from None
    if not 0 <= step < MAX_STEP:
        raise UsageError(f"{call}: the step is {step}, not from 0 to {MAX_STEP - 1}")
    return step


@dataclass(frozen=True, slots=True)
class Saved:
    """A save that is durable and verified: its step and slot, the size of the file, the time it took."""

    step: int
    slot: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The newest state that verifies; ``skipped`` says which newer files do not, and why."""

    step: int
    state: dict[str, Any]
    history: Any
    meta: Meta
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    attempt: int
    worker: str
    slot: int


class Slots:
    """The slots of one attempt at one trial, and the older ones that it may start from.

    ``skipped`` says what the last `newest` did not believe, also where it found nothing to believe.
    """

    def __init__(self, layout: Layout, run_id: str, number: int, attempt: int, worker: str) -> None:
        self._layout = layout
        self._run_id = run_id
        self._number = number
        self._attempt = attempt
        self._worker = worker
        self._directory = layout.checkpoint_dir(number)
        self._last: int | None = None
        self._serial = 0
        self._lower_removed = False
        self.skipped: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Make the directory; for whoever claims the trial, before the attempt starts.

        What interrupted saves of earlier attempts left there is removed.

        Raises:
            DamagedError: One of its names is a link to somewhere else, or no directory.
        """
        directory.make(self._layout.checkpoints, self._directory)
        directory.remove_temporaries(self._directory)

    def save(self, step: int, state: Mapping[str, object], history: object = ()) -> Saved:
        """Write *state* and *history* after *step* steps; when this returns, they are durable.

        The first save removes the slots of lower attempts, once it is verified itself.

        Raises:
            Superseded: The directory is gone, or a higher attempt has saved.
            UsageError: Something in *state* cannot be saved; the message names it.
            DamagedError: What was written reads back different; the older slot is intact.
            OSError: It could not be written; the older slot is intact.
        """
        return self.write(step, encode_content(dict(state), history))

    def write(self, step: int, encoded: Encoded) -> Saved:
        """Do what `save` does, of a state and history that are encoded already; in any thread, one at a time.

        Raises:
            Superseded: The directory is gone, or a higher attempt has saved.
            DamagedError: What was written reads back different; the older slot is intact.
            OSError: It could not be written; the older slot is intact.
        """
        start = time.monotonic()
        found = self._present()
        slot = self._slot_to_write(found)
        size = self._write(slot, step, encoded)
        self._last = slot
        if not self._lower_removed:
            # The name of the directory itself: most short trials never get here.
            durable.fsync_dir(self._layout.checkpoints)
            self._remove_lower(found)
            self._lower_removed = True
        return Saved(step, slot, size, time.monotonic() - start)

    def newest(self, check: Check | None = None) -> Loaded | None:
        """Return the newest state, by step, attempt, order, of this and all lower attempts; None without one.

        What does not verify, or does not pass *check*, is left where it is, and named.

        Raises:
            DamagedError: The directory is a link to somewhere else.
        """
        skipped: list[str] = []
        self.skipped = ()
        candidates = self._candidates(skipped)
        for meta, found in sorted(
            candidates, key=lambda pair: (-pair[0].step, -pair[1].attempt, -pair[0].serial, pair[1].path)
        ):
            content = self._read(found, skipped, check)
            if content is not None:
                self.skipped = tuple(skipped)
                return Loaded(meta.step, content["state"], content["history"], meta, self.skipped)
        self.skipped = tuple(skipped)
        return None

    @staticmethod
    def remove(layout: Layout, number: int) -> None:
        """Remove all that trial *number* keeps, its ``files`` too; for the finisher, after `done`.

        The directory is renamed first, so that a late save meets a missing name, never a half-empty place.
        Of a link only the link is removed.

        Raises:
            DamagedError: All checkpoints are behind a link to somewhere else.
        """
        directory.refuse_links(layout.checkpoints)
        # What stays (a file that is open on a network file system) is under a temporary name, for fsck.
        durable.take_away(layout.checkpoint_dir(number))

    def _slot_to_write(self, found: list[_Found]) -> int:
        if any(other.attempt > self._attempt for other in found):
            raise Superseded(f"a later attempt than {self._attempt} at trial {self._number} has saved")
        if self._last is None:
            self._last_of_before(found)
        return 0 if self._last is None else 1 - self._last

    def _last_of_before(self, found: list[_Found]) -> None:
        """Find out which own slot must not be touched, when this attempt has saved from another process."""
        own = [
            (meta.serial, other.slot) for other in found if (meta := self._verified_own(other)) is not None
        ]
        if own:
            self._serial, self._last = max(own)

    def _verified_own(self, found: _Found) -> Meta | None:
        if (found.attempt, found.worker) != (self._attempt, self._worker):
            return None
        with suppress(DamagedError, OSError):
            return file.verify(found.path)
        return None

    def _write(self, slot: int, step: int, encoded: Encoded) -> int:
        path = self._layout.checkpoint_slot(self._number, self._attempt, self._worker, slot)
        self._serial += 1
        meta = Meta(
            run_id=self._run_id,
            trial=self._number,
            attempt=self._attempt,
            worker=self._worker,
            step=step,
            serial=self._serial,
            versions=file.versions(),
        )
        try:
            return file.write_encoded(path, meta, encoded)
        except OSError as error:
            self._present()
            if not self._may_work_now(error, path):
                raise
        try:
            return file.write_encoded(path, meta, encoded)
        except OSError:
            self._present()
            raise

    def _may_work_now(self, error: OSError, path: Path) -> bool:
        """Return whether the same write may succeed at once, after making room for it where that is all."""
        if isinstance(error, FileNotFoundError):
            # The claimer of another attempt may have cleaned up the temporary file; the next one stays.
            return True
        if error.errno not in durable.NO_SPACE or self._last is None:
            return False
        # The newest good slot is the other one, this one would be replaced anyway.
        with suppress(OSError):
            path.unlink()
            return True
        return False

    def _present(self) -> list[_Found]:
        """Return the slots in the directory.

        Raises:
            Superseded: The directory is gone.
            DamagedError: It is a link to somewhere else.
        """
        directory.refuse_links(self._layout.checkpoints, self._directory)
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            raise Superseded(
                f"the checkpoints of trial {self._number} are gone: it is done or cleaned"
            ) from None
        found = ((name, parse_slot(name)) for name in names)
        return [_Found(self._directory / name, *parts) for name, parts in found if parts is not None]

    def _remove_lower(self, found: list[_Found]) -> None:
        for other in found:
            if other.attempt < self._attempt:
                with suppress(OSError):
                    other.path.unlink()
        directory.remove_temporaries(self._directory)

    def _candidates(self, skipped: list[str]) -> Iterator[tuple[Meta, _Found]]:
        try:
            found = self._present()
        except Superseded:
            return
        for other in found:
            if other.attempt <= self._attempt:
                meta = self._meta(other, skipped)
                if meta is not None:
                    yield meta, other

    def _meta(self, found: _Found, skipped: list[str]) -> Meta | None:
        try:
            meta = file.read_meta(found.path)
        except FileNotFoundError:
            return None
        except (DamagedError, OSError, MemoryError) as error:
            skipped.append(_reason(found, error))
            return None
        if not 0 <= meta.step < MAX_STEP:
            skipped.append(
                f"{found.path.name}: it is of step {meta.step}, steps are from 0 to {MAX_STEP - 1}"
            )
            return None
        expected = (self._run_id, self._number, found.attempt, found.worker)
        if (meta.run_id, meta.trial, meta.attempt, meta.worker) != expected:
            skipped.append(
                f"{found.path.name}: it is of run {meta.run_id}, trial {meta.trial}, attempt {meta.attempt},"
                f" worker {meta.worker}"
            )
            return None
        return meta

    def _read(self, found: _Found, skipped: list[str], check: Check | None) -> dict[str, Any] | None:
        try:
            _, content = file.read(found.path)
            _check_content(content)
            if check is not None:
                check(content["state"], content["history"])
        except FileNotFoundError:
            return None
        except (DamagedError, OSError, MemoryError, ValueError) as error:
            skipped.append(_reason(found, error))
            return None
        whole: dict[str, Any] = content
        return whole


def _check_content(content: Any) -> None:
    if (
        type(content) is not dict
        or content.keys() != {"state", "history"}
        or type(content["state"]) is not dict
        or not all(type(name) is str for name in content["state"])
    ):
        raise ValueError("it does not hold a state and a history")


def encode_content(state: dict[str, Any], history: object) -> Encoded:
    """Return the content of a checkpoint for `Slots.write`; tensors and arrays are referred to, not copied.

    Raises:
        UsageError: Something in *state* cannot be saved; the message names it.
    """
    try:
        return tree.encode({"state": state, "history": history})
    except UsageError as error:
        # The user knows the objects by their names, not by where they are in a file.
        raise UsageError(_AROUND.sub(r"\1\2", error.message), hint=error.hint) from None


def _reason(found: _Found, error: Exception) -> str:
    text = error.message if isinstance(error, DamagedError) else str(error)
    if isinstance(error, MemoryError):
        text = f"there is not enough memory to read it ({text or 'MemoryError'})"
    return f"{found.path.name}: {text.removeprefix(f'{found.path}: ')}"


def parse_slot(name: str) -> tuple[int, str, int] | None:
    """Return (attempt, worker, slot) of a checkpoint file name, None for another name."""
    match = _SLOT.fullmatch(name)
    return (int(match[1]), match[2], int(match[3])) if match else None
