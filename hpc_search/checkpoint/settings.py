"""Settings of torch that decide about bits: kept in a checkpoint and put back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from hpc_search.checkpoint.buffers import torch_dtypes
from hpc_search.checkpoint.file import versions
from hpc_search.checkpoint.slots import Loaded

#: Name of each setting, how it is read and how it is set, given torch.
_SETTINGS: Final[Mapping[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]]] = {
    "default_dtype": (
        lambda torch: str(torch.get_default_dtype()).removeprefix("torch."),
        lambda torch, value: torch.set_default_dtype(torch_dtypes()[value]),
    ),
    "matmul_precision": (
        lambda torch: torch.get_float32_matmul_precision(),
        lambda torch, value: torch.set_float32_matmul_precision(value),
    ),
    "deterministic": (
        lambda torch: torch.get_deterministic_debug_mode(),
        lambda torch, value: torch.set_deterministic_debug_mode(value),
    ),
    "cudnn_deterministic": (
        lambda torch: torch.backends.cudnn.deterministic,
        lambda torch, value: setattr(torch.backends.cudnn, "deterministic", value),
    ),
    "cudnn_benchmark": (
        lambda torch: torch.backends.cudnn.benchmark,
        lambda torch, value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    "cudnn_tf32": (
        lambda torch: torch.backends.cudnn.allow_tf32,
        lambda torch, value: setattr(torch.backends.cudnn, "allow_tf32", value),
    ),
}
#: The same names, and whether a value can be that setting.
_VALUES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "default_dtype": lambda value: value in ("float16", "bfloat16", "float32", "float64"),
    "matmul_precision": lambda value: value in ("highest", "high", "medium"),
    "deterministic": lambda value: type(value) is int and 0 <= value <= 2,
    "cudnn_deterministic": lambda value: type(value) is bool,
    "cudnn_benchmark": lambda value: type(value) is bool,
    "cudnn_tf32": lambda value: type(value) is bool,
    "threads": lambda value: type(value) is int,
}
#: What the runner decides: told where it differs, never changed.
_THREADS: Final = "threads"


def capture() -> dict[str, Any]:
    """Return the settings of torch; nothing where it is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found: dict[str, Any] = {_THREADS: torch.get_num_threads()}
    for name, (get, _) in _SETTINGS.items():
        # A torch that was told of precision in its new way refuses to be asked in its old one.
        with suppress(RuntimeError, AttributeError):
            found[name] = get(torch)
    return found


def is_state(state: Any) -> bool:
    """Return whether *state* is one that `capture` makes; names that are not known here do not matter."""
    return type(state) is dict and all(
        type(name) is str and (name not in _VALUES or _VALUES[name](value)) for name, value in state.items()
    )


def restore(state: Mapping[str, Any]) -> None:
    """Put the settings back that differ from *state*, of `capture`."""
    torch = sys.modules.get("torch")
    now = capture()
    for name, (_, put) in _SETTINGS.items():
        if torch is not None and name in state and state[name] != now.get(name, state[name]):
            with suppress(RuntimeError, AttributeError):
                put(torch, state[name])


def differences(loaded: Loaded) -> list[str]:
    """Say what of versions and threads is not as it was when *loaded* was saved: bits may differ."""
    then, now = loaded.meta.versions, versions()
    found = [
        f"{name} {then[name]} when saved, {now[name]} now"
        for name in sorted(then.keys() & now.keys())
        if then[name] != now[name]
    ]
    threads, before = capture().get(_THREADS), loaded.state.get("settings", {}).get(_THREADS)
    if None not in (threads, before) and threads != before:
        found.append(f"{before} threads when saved, {threads} now")
    return found
