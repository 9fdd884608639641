"""The state of numpy's generators, with the seeds that they still give to the generators they spawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from hpc_search.errors import UsageError

_SEED_FIELDS: Final = frozenset({"entropy", "spawn_key", "pool_size", "n_children_spawned"})
_KINDS: Final = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
#: Places in a generator's buffer that numpy takes unseen, and reads beyond it.
_PLACES: Final = {"MT19937": 624, "Philox": 4}


def taken(bits: Any) -> dict[str, Any]:
    """Return the state of a bit generator and of its seed sequence, where it has one of numpy's."""
    import numpy as np

    state: dict[str, Any] = dict(bits.state)
    if type(bits.seed_seq) is np.random.SeedSequence:
        state["seed_seq"] = taken_seeds(bits.seed_seq)
    return state


def put(name: str, bits: Any, state: dict[str, Any]) -> None:
    """Put *state* of `taken` into a bit generator, in place.

    Raises:
        UsageError: It is of another kind.
    """
    import numpy as np

    _check_kind(name, bits.state, state)
    seeds = state.get("seed_seq")
    plain = {key: value for key, value in state.items() if key != "seed_seq"}
    with _named(name):
        _check_places(plain)
        if seeds is None:
            bits.state = plain
        else:
            bits.__setstate__((plain, np.random.SeedSequence(**seeds)))


def put_legacy(name: str, value: Any, state: dict[str, Any]) -> None:
    """Put the state of a ``RandomState`` back.

    Raises:
        UsageError: It is of another kind.
    """
    _check_kind(name, value.get_state(legacy=False), state)
    with _named(name):
        _check_places(state)
        value.set_state(state)


def is_legacy_state(state: Any) -> bool:
    """Return whether *state* is one of a ``RandomState``, whole enough to be put into one."""
    import numpy as np

    if type(state) is not dict or state.get("bit_generator") not in _KINDS:
        return False
    try:
        put_legacy("", np.random.RandomState(getattr(np.random, state["bit_generator"])()), state)
    except UsageError:
        return False
    return True


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise UsageError(
            f"{name}: the checkpoint holds no state of such a generator: {error}",
            hint="remove that checkpoint, and the trial begins anew",
        ) from error


def _check_places(state: dict[str, Any]) -> None:
    kind = state["bit_generator"]
    place = state["state"]["pos"] if kind == "MT19937" else state.get("buffer_pos", 0)
    if not 0 <= place <= _PLACES.get(kind, 0):
        raise ValueError(f"place {place} is outside its buffer")


def _check_kind(name: str, now: dict[str, Any], state: dict[str, Any]) -> None:
    if now["bit_generator"] != state["bit_generator"]:
        raise UsageError(
            f"{name}: the checkpoint holds a {state['bit_generator']},"
            f" the trial gives a {now['bit_generator']}"
        )


def taken_seeds(seeds: Any) -> dict[str, Any]:
    """Return what a seed sequence was made from, and how many children it has spawned."""
    return {
        "entropy": seeds.entropy,
        "spawn_key": tuple(seeds.spawn_key),
        "pool_size": seeds.pool_size,
        "n_children_spawned": seeds.n_children_spawned,
    }


def are_seeds(state: Any) -> bool:
    """Return whether *state* has what `taken_seeds` returns."""
    return type(state) is dict and state.keys() == _SEED_FIELDS


def put_seeds(name: str, seeds: Any, state: dict[str, Any]) -> None:
    """Let *seeds* have spawned as many children as it had, in place.

    Raises:
        UsageError: It was made from something else, or has spawned more.
    """
    missing = state["n_children_spawned"] - seeds.n_children_spawned
    if _made_from(taken_seeds(seeds)) != _made_from(state) or missing < 0:
        raise UsageError(
            f"{name}: a seed sequence cannot change in place to what was saved",
            hint="make it from trial.seed, and restore before it spawns",
        )
    seeds.spawn(missing)


def _made_from(state: dict[str, Any]) -> tuple[object, ...]:
    entropy = state["entropy"]
    # The same numbers in a list, a tuple or an array make the same sequence.
    words = entropy.tolist() if hasattr(entropy, "tolist") else entropy
    words = [int(word) for word in words] if isinstance(words, list | tuple) else words
    return words, tuple(state["spawn_key"]), state["pool_size"]
