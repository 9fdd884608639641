"""What a checkpoint of a trial holds, looked at before anything of it is used.

A seal proves that a file is as it was written, not who wrote it: a later program, another one, or a person.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hpc_search.checkpoint import buffers, numpy_random, settings
from hpc_search.checkpoint.objects import state_of
from hpc_search.checkpoint.rng import capture

_NEEDED: Final = frozenset({"objects", "rng", "read"})


def of_trial(
    objects: Mapping[str, object], *, read: Iterable[str], samples: dict[str, Any] | None, rung: int
) -> dict[str, Any]:
    """Return all that a checkpoint holds of a trial beside its history.

    What they hold is checked when it is encoded.

    Raises:
        UsageError: One of *objects* is of no kind that can be saved; the message names it.
    """
    return {
        "objects": state_of(objects, check=False),
        "rng": capture(),
        "settings": settings.capture(),
        # An attempt that resumes at the last step reads nothing again, and reports no samples again.
        "read": sorted(read),
        "samples": samples,
        "rung": rung,
    }


def check(state: Mapping[str, Any], history: Any) -> None:
    """Raise where *state* and *history* are not what a trial saves.

    Raises:
        ValueError: Something is missing or of another type; with its name.
    """
    if missing := _NEEDED - state.keys():
        raise ValueError(f"its state has no {', '.join(map(repr, sorted(missing)))}")
    for name, right in _PARTS.items():
        if name in state and not right(state[name]):
            raise ValueError(f"{name!r} of its state is not what a trial saves: {state[name]!r:.80}")
    if not _is_history(history):
        raise ValueError(f"its history is not a list of steps with numbers: {history!r:.80}")


def _is_objects(objects: Any) -> bool:
    return type(objects) is dict and all(type(name) is str and _is_row(row) for name, row in objects.items())


def _is_row(row: Any) -> bool:
    if type(row) is not list or len(row) not in (2, 3) or type(row[0]) is not str or row[0] not in _KINDS:
        return False
    right = _KINDS[row[0]]
    return (right is None or right(row[1])) and (len(row) == 2 or _are_texts(row[2]))


def _are_texts(value: Any) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _is_bytes_tensor(value: Any) -> bool:
    return buffers.is_tensor(value) and str(value.dtype) == "torch.uint8" and value.ndim == 1


def _is_numpy_state(state: Any) -> bool:
    return type(state) is dict and type(state.get("bit_generator")) is str


def _is_rng(rng: Any) -> bool:
    if type(rng) is not dict or not rng.keys() <= {"python", "numpy", "torch", "cuda"}:
        return False
    devices = rng.get("cuda", [])
    return (
        _sets(random.Random().setstate, rng.get("python"))
        and ("numpy" not in rng or numpy_random.is_legacy_state(rng["numpy"]))
        and ("torch" not in rng or _is_torch_state(rng["torch"]))
        and type(devices) is list
        and all(_is_bytes_tensor(one) for one in devices)
    )


def _is_torch_state(state: Any) -> bool:
    if not _is_bytes_tensor(state):
        return False
    import torch

    return _sets(torch.Generator().set_state, state)


def _sets(put: Callable[[Any], Any], state: Any) -> bool:
    """Return whether a generator that nobody uses takes *state*."""
    try:
        put(state)
    except (TypeError, ValueError, RuntimeError, OverflowError, IndexError):
        return False
    return True


def _is_samples(samples: Any) -> bool:
    if samples is None:
        return True
    if type(samples) is not dict or samples.keys() != {"ids", "scores"}:
        return False
    ids, scores = samples["ids"], samples["scores"]
    return (
        type(ids) is type(scores) is list
        and len(ids) == len(scores)
        and all(isinstance(one, str | int) for one in ids)
        and all(type(one) is float and math.isfinite(one) for one in scores)
    )


def _is_history(history: Any) -> bool:
    return isinstance(history, list | tuple) and all(
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and type(entry[0]) is int
        and type(entry[1]) is dict
        and all(type(name) is str and type(value) is float for name, value in entry[1].items())
        for entry in history
    )


_PARTS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "objects": _is_objects,
    "rng": _is_rng,
    "settings": settings.is_state,
    "read": _are_texts,
    "samples": _is_samples,
    "rung": lambda rung: type(rung) is int and rung >= 0,
}


#: Names of the kinds of objects, and whether a state can be one of that kind; None: any may be.
_KINDS: Final[Mapping[str, Callable[[Any], bool] | None]] = {
    "state_dict": None,
    "value": None,
    "random.Random": None,
    "torch.Generator": _is_bytes_tensor,
    "numpy.Generator": _is_numpy_state,
    "numpy.BitGenerator": _is_numpy_state,
    "numpy.RandomState": _is_numpy_state,
    "numpy.SeedSequence": numpy_random.are_seeds,
    "tensor": buffers.is_tensor,
    "array": buffers.is_array,
    "dict": lambda state: isinstance(state, dict),
    "list": lambda state: type(state) is list,
    "set": lambda state: type(state) is set,
}
