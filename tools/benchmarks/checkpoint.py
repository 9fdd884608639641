"""`bench checkpoint`: saving and loading a state beside torch.save, safetensors and the bare system calls."""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from tools.benchmarks import common
from tools.benchmarks.common import Report

#: The ways to write the same bytes by hand, of which the best counts.
_RAW: Final = {"raw, 64 KiB a write": 64 << 10, "raw, 4 MiB a write": 4 << 20, "raw, one write": 1 << 60}
_OURS, _PAUSE = "hpc_search", "its copy for the background alone"
_TORCH, _SAFE = "torch.save", "safetensors"
Timed = Callable[[], float]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--sizes", default="200,1000", help="MB of state (10^6 bytes)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")


def run(given: argparse.Namespace, report: Report) -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(1)
    with common.workplace(given, report) as place:
        report.say(_versions())
        for size in common.numbers(given.sizes):
            _measure(place, size, given.rounds, report)


def _versions() -> str:
    import h5py
    import torch

    there = importlib.util.find_spec("safetensors") is not None
    safe = "safetensors installed" if there else "safetensors is not installed: without it"
    return f"torch {torch.__version__}, h5py {h5py.__version__}, {safe}; one thread a process"


def state_of_size(megabytes: int) -> dict[str, Any]:
    """Return the state of a training with AdamW: parameters and two moments, in tensors of many sizes."""
    import torch

    numbers = megabytes * 10**6 // 4
    shares = [numbers // 3 // 20] * 18 + [numbers // 3 // 2000] * 40
    generator = torch.Generator().manual_seed(1)

    def group() -> dict[str, Any]:
        return {f"layer {i}": torch.randn(max(1, n), generator=generator) for i, n in enumerate(shares)}

    return {"parameters": group(), "exp_avg": group(), "exp_avg_sq": group(), "step": 7}


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    return {f"{key}.{name}": t for key, group in state.items() if key != "step" for name, t in group.items()}


def _measure(place: Path, megabytes: int, rounds: int, report: Report) -> None:
    place = place / str(megabytes)
    place.mkdir()
    state = state_of_size(megabytes)
    report.say(f"{megabytes} MB of state, {len(_flat(state))} tensors, {rounds} interleaved rounds")
    savers = _savers(place, state)
    times: dict[str, list[float]] = {name: [] for name in savers}
    loaders = _loaders(place)
    loads: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds):
        # Who comes after whom matters to the disk, so the order turns.
        for name in _turned(list(savers), number):
            os.sync()
            times[name].append(savers[name]())
        for name in _turned(list(loaders), number):
            loads[name].append(loaders[name]())
    best = min((statistics.median(times[name]), name) for name in _RAW)[1]
    report.say(f"  saving, durable; the reference is {best}: the best of the bare ones")
    _table(times, best, report)
    report.say("  loading, from the page cache")
    _table(loads, _TORCH, report)
    report.figure(
        f"saving {megabytes} MB, durable, checksummed, read back", _ratio(times, best, _OURS), 0.8, "of raw",
        at_least=True,
    )  # fmt: skip
    report.figure(
        f"loading {megabytes} MB with verification", _ratio(loads, _TORCH, _OURS), 0.9, "of torch.load",
        at_least=True,
    )  # fmt: skip


def _turned(names: list[str], number: int) -> list[str]:
    start = number % len(names)
    return names[start:] + names[:start]


def _ratio(times: dict[str, list[float]], reference: str, name: str) -> float:
    return statistics.median(times[reference]) / statistics.median(times[name])


def _table(times: dict[str, list[float]], reference: str, report: Report) -> None:
    for name, found in times.items():
        report.say(f"    {name:<32} {common.spread(found, 's'):<34} {_ratio(times, reference, name):5.2f}")


# ------------------------------------------------------------------------------------------------ saving


def _savers(place: Path, state: dict[str, Any]) -> dict[str, Timed]:
    from hpc_search.checkpoint import Slots, slots
    from hpc_search.layout import Layout

    flat = _flat(state)
    ours = Slots(Layout(place), "bench", 0, 1, "0" * 16)
    ours.prepare()
    content = {"objects": state}
    savers: dict[str, Timed] = {}
    for name, chunk in _RAW.items():
        savers[name] = _raw_saver(place / "raw.bin", flat, chunk)
    savers[_OURS] = lambda: _timed(lambda: ours.write(1, slots.encode_content(content, [])))
    savers[_PAUSE] = lambda: _timed(lambda: slots.encode_content(content, []).private())
    savers[_TORCH] = lambda: _durably(place / "torch.pt", lambda path: _torch_save(state, path))
    if importlib.util.find_spec("safetensors") is not None:
        savers[_SAFE] = lambda: _durably(place / "safe.safetensors", lambda path: _safe_save(flat, path))
    return savers


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    kept = action()
    seconds = time.perf_counter() - started
    del kept
    return seconds


def _torch_save(state: dict[str, Any], path: Path) -> None:
    import torch

    torch.save(state, path)


def _safe_save(flat: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(flat, path)


def _durably(path: Path, write: Callable[[Path], None]) -> float:
    """Time *write* into a new file, fsync, rename and fsync of the directory."""
    temporary = path.with_name("temporary")

    def save() -> None:
        write(temporary)
        _sync(temporary)
        os.rename(temporary, path)
        _sync(path.parent)

    return _timed(save)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _raw_saver(path: Path, flat: dict[str, Any], chunk: int) -> Timed:
    """Return what writes the same bytes, already in one piece."""
    import torch

    data = memoryview(torch.cat([tensor.reshape(-1) for tensor in flat.values()]).view(torch.uint8).numpy())

    def write(temporary: Path) -> None:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for start in range(0, len(data), chunk):
            view = data[start : start + chunk]
            while view:
                view = view[os.write(fd, view) :]
        os.close(fd)

    return lambda: _durably(path, write)


# ----------------------------------------------------------------------------------------------- loading


def _loaders(place: Path) -> dict[str, Timed]:
    from hpc_search.checkpoint import Slots
    from hpc_search.layout import Layout

    ours = Slots(Layout(place), "bench", 0, 2, "1" * 16)
    loaders: dict[str, Timed] = {
        "raw, into one new buffer": lambda: _timed((place / "raw.bin").read_bytes),
        _OURS: lambda: _timed(ours.newest),
        _TORCH: lambda: _timed(partial(_torch_load, place / "torch.pt")),
    }
    if importlib.util.find_spec("safetensors") is not None:
        loaders[_SAFE] = lambda: _timed(lambda: _safe_load(place / "safe.safetensors"))
    return loaders


def _torch_load(path: Path) -> object:
    import torch

    return torch.load(path, weights_only=True, mmap=False)


def _safe_load(path: Path) -> object:
    from safetensors.torch import load_file

    # It maps the file: only what is touched is read.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}
