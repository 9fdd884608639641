"""The function that a search file names: found, and looked at, without being imported."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpc_search.errors import UsageError
from hpc_search.planning.imports import Locator


class Reference(NamedTuple):
    """A callable named in a search file: the module it is imported as, and the function."""

    module: str
    function: str


def parse_reference(text: str) -> Reference:
    """Return the module and function of ``module:function`` or ``file.py:function``."""
    source, _, function = text.rpartition(":")
    if source.endswith(".py"):
        source = source.removesuffix(".py").removeprefix("./").replace("/", ".")
    return Reference(source, function)


def find_source(reference: Reference, base: Path) -> Path | None:
    """Return the file of the module: below *base* first, else on sys.path; None for a built-in one."""
    local = _below(base, reference.module)
    if local is not None:
        return local
    head, *rest = reference.module.split(".")
    spec = Locator([base]).spec(head)
    if spec is None:
        message = f"the module {reference.module!r} is not found"
        hint = f"put it beside the search file ({base}) or install it; `file.py:function` names a file"
        raise UsageError(message, hint=hint)
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for location in spec.submodule_search_locations or []:
        found = _below(Path(location), ".".join(rest))
        if found is not None:
            return found
    raise UsageError(f"the module {reference.module!r} is not found in the package {head!r}")


def _below(base: Path, module: str) -> Path | None:
    stem = base.joinpath(*module.split("."))
    for candidate in (stem.with_name(stem.name + ".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def check_function(reference: Reference, path: Path) -> None:
    """Raise UsageError unless *path* parses and defines the function at its top level."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        message = f"{path}:{error.lineno}: the file is not valid Python: {error.msg}"
        raise UsageError(message, hint="correct it, then plan again") from None
    names = _top_level(tree)
    if reference.function not in names and "*" not in names:
        near = difflib.get_close_matches(reference.function, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it defines: {', '.join(sorted(names)[:12])}"
        raise UsageError(f"{path} has no function {reference.function!r}", hint=hint)


def _top_level(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = (name for target in targets for name in ast.walk(target))
            names.update(name.id for name in found if isinstance(name, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return names


def _statements(parent: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a module, also those inside `if`, `try` and `with`."""
    for node in ast.iter_child_nodes(parent):
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _statements(node)
