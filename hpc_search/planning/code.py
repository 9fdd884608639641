"""The user's sources: found without being imported, kept in code.zip as they were when planned."""

from __future__ import annotations

import ast
import difflib
import hashlib
import io
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from hpc_search.errors import PASSING, TemporaryError, UsageError

#: Sources of a search are small; more than this is most likely data named by mistake.
MAX_BYTES: Final = 20 << 20
MAX_FILES: Final = 2000
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class Reference(NamedTuple):
    """A callable named in a search file: the module it is imported as, and the function."""

    module: str
    function: str


class Snapshot(NamedTuple):
    """code.zip and its digest; ``data`` is empty where nothing local is needed."""

    data: bytes
    digest: str
    files: tuple[str, ...]


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
    spec = PathFinder.find_spec(head)
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


def snapshot(base: Path, references: Iterable[Reference], patterns: Iterable[str]) -> Snapshot:
    """Return code.zip: the local modules that the references import, transitively, and extra files.

    Only files below *base* are taken; installed packages are not. Imports are found by parsing.

    Raises:
        UsageError: A pattern matches nothing, or the sources exceed 20 MiB or 2,000 files.
    """
    found: dict[str, Path] = {}
    queue = [reference.module for reference in references]
    while queue:
        module = queue.pop()
        path = _below(base, module)
        name = path.relative_to(base).as_posix() if path else ""
        if path is None or name in found:
            continue
        found[name] = path
        queue.extend(_parents(module))
        queue.extend(_imports(path, module))
    for pattern in patterns:
        matches = [path for path in sorted(base.glob(pattern)) if path.is_file()]
        if not matches:
            raise UsageError(f"files: {pattern!r} matches nothing below {base}")
        found.update((path.relative_to(base).as_posix(), path) for path in matches)
    return _pack(found)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _imports(path: Path, module: str) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            names.append(source)
            names.extend(f"{source}.{alias.name}" if source else alias.name for alias in node.names)
    return [name for name in names if name and name.split(".")[0] not in sys.stdlib_module_names]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _pack(found: dict[str, Path]) -> Snapshot:
    if not found:
        return Snapshot(b"", "", ())
    contents = {name: path.read_bytes() for name, path in sorted(found.items())}
    total = sum(map(len, contents.values()))
    if total > MAX_BYTES or len(contents) > MAX_FILES:
        message = f"the sources of the search are {len(contents)} files, {total >> 20} MiB"
        raise UsageError(
            message,
            hint=f"at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB; data do not belong in `files`",
        )
    buffer = io.BytesIO()
    # A package without __init__.py is only found in an archive that names its directory.
    folders = {f"{parent.as_posix()}/" for name in contents for parent in PurePosixPath(name).parents[:-1]}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted(folders):
            archive.writestr(zipfile.ZipInfo(folder, _EPOCH), b"")
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return Snapshot(buffer.getvalue(), _digest(contents), tuple(contents))


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def problem(path: Path, digest: str) -> str:
    """Return what is wrong with the code.zip at *path*, "" where its files still have *digest*.

    Raises:
        TemporaryError: The file system does not give it now; that says nothing of the code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in sorted(archive.namelist()) if name[-1] != "/"}
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        if error.errno in PASSING:
            hint = "`submit` again when the file system answers"
            raise TemporaryError(f"{path} cannot be read ({error.strerror})", hint=hint) from error
        return f"{path} cannot be read: {error}"
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        return f"{path} cannot be read: {error}"
    return "" if _digest(contents) == digest else f"{path} is not what was planned: its digest differs"
