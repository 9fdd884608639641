"""The installed packages that a trial's code imports: when it is planned, and where it runs."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

#: Directory of an installed distribution: its name, its version.
_INFO: Final = re.compile(r"([^-]+)-([^-]+?)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_SEPARATORS: Final = re.compile(r"[-_.]+")
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
    versions = installed() if planned else {}
    for name, then in planned.items():
        now = versions.get(_normal(name), "")
        if not now or now == then:
            continue
        words = f"{name} {now} here, {then} when planned"
        # 2.13.0+cpu and 2.13.0+cu128 are builds of one version.
        (told if _public(now) == _public(then) else refused).append(words)
    return Differences(tuple(refused), tuple(told))


def installed() -> dict[str, str]:
    """Return normalised name -> version of every distribution on sys.path, the first one of each.

    By the names of their directories: importlib.metadata would cost every worker's start 15 ms. "" where an
    interrupted upgrade left two versions: nobody knows which one it is.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        here: dict[str, str] = {}
        with suppress(OSError):
            for match in filter(None, map(_INFO.fullmatch, os.listdir(place or "."))):
                name, version = _normal(match[1]), match[2]
                here[name] = version if here.get(name, version) == version else ""
        found = here | found
    return found


def _normal(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _public(version: str) -> str:
    return version.partition("+")[0]


def packages(imported: Iterable[str]) -> dict[str, str]:
    """Return distribution -> version of what the modules *imported* belong to, and of numpy and torch."""
    versions, found = installed(), dict[str, str]()
    unknown: set[str] = set()
    for name in sorted({*_ALWAYS, *imported}):
        distribution = _NAMED.get(name, name)
        version = versions.get(_normal(distribution), "")
        if version:
            found[distribution] = version
        elif name not in _ALWAYS:
            unknown.add(name)
    if unknown:
        found |= {name: versions[_normal(name)] for name in _by_files(unknown) if _normal(name) in versions}
    return dict(sorted(found.items()))


def _by_files(heads: set[str]) -> list[str]:
    """Return the distributions that say that they installed the modules *heads*."""
    from importlib import metadata

    found = []
    for distribution in metadata.distributions():
        # A broken installation can raise anything.
        with suppress(Exception):
            listed = (distribution.read_text("top_level.txt") or "").split()
            record = "" if listed else distribution.read_text("RECORD") or ""
            if any(
                head in listed or f"{head}/__init__." in record or f"\n{head}.py," in record for head in heads
            ):
                found.append(str(distribution.metadata["Name"]))
    return found
