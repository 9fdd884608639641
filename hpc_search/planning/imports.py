"""Which modules a source imports, and where each is found, without importing any of them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from typing import Final, Literal, NamedTuple

#: What makes a file importable.
SUFFIXES: Final = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)
#: This package runs the trials; it is never part of their sources.
OWN: Final = __name__.partition(".")[0]
#: More candidates than imports: a docstring can look like one. What they name decides whether to look closer.
_IMPORT: Final = re.compile(r"(?:^|[;:])[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([^#\n;(]+))", re.MULTILINE)
_BY_NAME: Final = re.compile(r"(?:import_module|__import__)\(\s*[\"'](\w+)")
_SITES: Final = ("site-packages", "dist-packages")


class Found(NamedTuple):
    """A top-level module: the directory that it is imported from, its file or its directories."""

    name: str
    kind: Literal["module", "package", "namespace"]
    root: Path
    places: tuple[Path, ...]


class Locator:
    """Finds top-level modules below *first*, then where this interpreter would."""

    def __init__(self, first: Sequence[Path]) -> None:
        """Look below *first* before anything else, and in the `src` directories there after all else."""
        importlib.invalidate_caches()
        self._first = [str(path) for path in first]
        self._known: dict[str, ModuleSpec | None] = {}

    def spec(self, head: str) -> ModuleSpec | None:
        """Return the spec of the top-level module *head*, None where there is none."""
        if head not in self._known:
            self._known[head] = self._find(head)
        return self._known[head]

    def _find(self, head: str) -> ModuleSpec | None:
        path = [*self._first, *(entry or os.getcwd() for entry in sys.path)]
        spec = PathFinder.find_spec(head, path)
        if spec is None and head not in sys.modules:
            # Editable installations have finders of their own.
            with suppress(ImportError, ValueError, AttributeError):
                spec = importlib.util.find_spec(head)
        return spec or PathFinder.find_spec(head, [os.path.join(place, "src") for place in self._first])

    def local(self, head: str) -> Found | None:
        """Return where *head* is, None where it is installed, built in, this package, or nowhere."""
        if head == OWN or not head:
            return None
        spec = self.spec(head)
        if spec is None or spec.origin in ("built-in", "frozen"):
            return None
        if spec.submodule_search_locations is None:
            file = Path(spec.origin or "")
            if not file.name.endswith(SUFFIXES) or installed(file):
                return None
            file = _normal(file)
            return Found(head, "module", file.parent, (file,))
        namespace = not spec.origin
        places = [Path(place) for place in spec.submodule_search_locations if place]
        places = [_normal(place) for place in places if place.is_dir() and not installed(place)]
        if not places or (namespace and not any(map(_has_modules, places))):
            return None
        return Found(head, "namespace" if namespace else "package", places[0].parent, tuple(places))


def _normal(place: Path) -> Path:
    """Return *place* with every link above it resolved: one directory has one name."""
    return place.parent.resolve() / place.name


def _has_modules(place: Path) -> bool:
    """Return whether *place*, without __init__.py, holds modules: else it is only called so."""
    with suppress(OSError):
        folders = [place, *(path for path in place.iterdir() if path.is_dir())]
        return any(path.name.endswith(SUFFIXES) for folder in folders for path in folder.iterdir())
    return False


def installed(path: Path) -> bool:
    """Return whether *path* belongs to an installation: the interpreter's, or one that pip made."""
    if any(part in _SITES for part in path.parts):
        return True
    places = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")}
    if any(path.is_relative_to(place) for place in places):
        return True
    # `pip install --target` leaves them beside the packages; an editable installation does not.
    with suppress(OSError):
        return any(name.endswith(".dist-info") for name in os.listdir(path.parent))
    return False


def candidates(text: str) -> set[str]:
    """Return top-level names that a source may import, and maybe some that it does not."""
    joined = text.replace("\\\n", " ")
    found = {match[1] for match in _BY_NAME.finditer(joined)}
    for match in _IMPORT.finditer(joined):
        names = [match[1]] if match[1] else match[2].split(",")
        found.update(name.split(".")[0].split()[0] for name in names if name.split(".")[0].split())
    return {name for name in found if name.isidentifier() and name not in sys.stdlib_module_names}


def imports(text: str) -> set[str]:
    """Return the top-level names that a source imports: exact, and slow. Nothing where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    by_name = {match[1] for match in _BY_NAME.finditer(text)}
    return by_name | set(_heads(tree))


def _heads(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]
