"""The installed packages that a trial's code imports: when it is planned, and where it runs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from typing import Final, NamedTuple

#: Always compared when a worker starts: what a result depends on most.
_ALWAYS: Final = ("numpy", "torch")
#: Import names whose distribution is called otherwise; others are looked up in what is installed.
_NAMED: Final = {
    "sklearn": "scikit-learn", "PIL": "pillow", "yaml": "PyYAML", "cv2": "opencv-python", "Bio": "biopython",
    "skimage": "scikit-image", "dateutil": "python-dateutil", "attr": "attrs", "pkg_resources": "setuptools",
}  # fmt: skip


class Differences(NamedTuple):
    """Words on packages: what may change results, and what is told only (builds of one version)."""

    refused: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def differences(planned: Mapping[str, str], python: str) -> Differences:
    """Return how the packages here differ from *planned* and the interpreter from *python*.

    What is not known, here or there, does not differ: a missing package fails its import, or is not needed.
    """
    refused: list[str] = []
    told: list[str] = []
    here = platform.python_version()
    if python and _minor(here) != _minor(python):
        refused.append(f"python {here} here, {python} when planned")
    for name, then in planned.items():
        now = version_of(name)
        if not now or now == then:
            continue
        words = f"{name} {now} here, {then} when planned"
        # 2.13.0+cpu and 2.13.0+cu128 are builds of one version.
        (told if _public(now) == _public(then) else refused).append(words)
    return Differences(tuple(refused), tuple(told))


def version_of(distribution: str) -> str:
    """Return the installed version of *distribution*, "" where nobody knows one."""
    # A broken installation can raise anything.
    with suppress(Exception):
        return str(metadata.version(distribution) or "")
    return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _public(version: str) -> str:
    return version.partition("+")[0]


def packages(imported: Iterable[str]) -> dict[str, str]:
    """Return distribution -> version of what the modules *imported* belong to, and of numpy and torch."""
    found: dict[str, str] = {}
    unknown: set[str] = set()
    for name in sorted({*_ALWAYS, *imported}):
        distribution = _NAMED.get(name, name)
        version = version_of(distribution)
        if version:
            found[distribution] = version
        elif name not in _ALWAYS:
            unknown.add(name)
    if unknown:
        found |= _by_files(unknown)
    return dict(sorted(found.items()))


def _by_files(heads: set[str]) -> dict[str, str]:
    """Return the distributions that say that they installed the modules *heads*."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        with suppress(Exception):
            listed = (distribution.read_text("top_level.txt") or "").split()
            record = "" if listed else distribution.read_text("RECORD") or ""
            if any(
                head in listed or f"{head}/__init__." in record or f"\n{head}.py," in record for head in heads
            ):
                found[distribution.metadata["Name"]] = distribution.version
    return found
