"""The state of numpy's generators, with the seeds that they still give to the generators they spawn."""

from __future__ import annotations

from typing import Any

from hpc_search.errors import UsageError


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
    value.set_state(state)


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


def put_seeds(name: str, seeds: Any, state: dict[str, Any]) -> None:
    """Let *seeds* have spawned as many children as it had, in place.

    Raises:
        UsageError: It was made from something else, or has spawned more.
    """
    missing = state["n_children_spawned"] - seeds.n_children_spawned
    if {**taken_seeds(seeds), "n_children_spawned": 0} != {**state, "n_children_spawned": 0} or missing < 0:
        raise UsageError(
            f"{name}: a seed sequence cannot change in place to what was saved",
            hint="make it from trial.seed, and restore before it spawns",
        )
    seeds.spawn(missing)
