"""Which files a snapshot takes: the trial's package, what it imports from elsewhere, programs, patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search.errors import UsageError
from hpc_search.planning import archive, git, ignoring, imports
from hpc_search.planning.archive import Manifest, Snapshot, name_below
from hpc_search.planning.imports import SUFFIXES, Found, Locator
from hpc_search.records.search import TrialSpec

#: Sources are small; more than this is most likely data.
MAX_BYTES: Final = 64 << 20
MAX_FILES: Final = 5000
#: A larger file of a package is data, unless it is a module; `files` takes it all the same.
DATA_BYTES: Final = 5 << 20
#: A larger file among a command's arguments is data.
_ARGUMENT_BYTES: Final = 1 << 20
_SHOWN: Final = 5
#: Where sources from outside of the search file's directory stand in the archive.
_OUTSIDE: Final = ".outside"


class Sources(NamedTuple):
    """A snapshot, the directories that its roots are copies of, and the installed modules that it imports."""

    snapshot: Snapshot
    roots: tuple[Path, ...]
    imported: frozenset[str]


def take(trials: Sequence[TrialSpec], base: Path) -> Sources:
    """Return the sources of what *trials* run; *base* is the directory of the search file.

    Raises:
        UsageError: A pattern matches nothing, or the sources are too many or too large.
    """
    taken = _Taken(base.resolve())
    taken.roots.append(taken.base)
    taken.modules([_head(trial) for trial in trials if trial.callable], Locator([taken.base]))
    programs: dict[str, None] = {}
    module_runs = False
    for trial in trials:
        found, runs = _programs(trial.command, taken)
        programs.update(dict.fromkeys(found))
        module_runs = module_runs or runs
    for pattern in dict.fromkeys(pattern for trial in trials for pattern in trial.files):
        taken.pattern(pattern)
    snapshot = _pack(taken, [*programs], module=module_runs)
    return Sources(snapshot, tuple(taken.roots), frozenset(taken.imported))


def in_place(trials: Sequence[TrialSpec], base: Path) -> Sources:
    """Return no snapshot of what *trials* run, only where their modules are."""
    roots = [base.resolve()]
    locator = Locator(list(roots))
    for trial in trials:
        found = locator.local(_head(trial)) if trial.callable else None
        if found is not None and found.root not in roots:
            roots.append(found.root)
    return Sources(Snapshot(), tuple(roots), frozenset())


def _head(trial: TrialSpec) -> str:
    source = trial.callable.rpartition(":")[0]
    return source.removesuffix(".py").removeprefix("./").replace("/", ".").split(".")[0]


def _programs(command: Sequence[str], taken: _Taken) -> tuple[list[str], bool]:
    """Take the arguments of *command* that are files; return them, and whether it runs a module with -m."""
    found = []
    for place, part in enumerate(command):
        name = taken.argument(part) if place or "/" in part else ""
        if name:
            found.append(name)
    head = _module_of(command)
    runs = bool(head) and taken.modules([head], Locator([taken.base]))
    return found, runs


def _module_of(command: Sequence[str]) -> str:
    """Return the top-level module of ``python -m MODULE``, "" where *command* is not that."""
    at = command.index("-m") if "-m" in command[:-1] else -1
    return command[at + 1].split(".")[0] if at > 0 else ""


@dataclass(slots=True)
class _Taken:
    """What was taken so far: name in the archive -> file, and the roots of imports."""

    base: Path
    files: dict[str, Path] = field(default_factory=dict)
    roots: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    #: Modules that are installed, or nowhere.
    imported: set[str] = field(default_factory=set)
    #: Package directory -> the name that it is imported by, where that is another.
    _mapped: dict[Path, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _patterns: dict[Path, ignoring.Patterns] = field(default_factory=dict)

    # -- modules
    def modules(self, heads: Iterable[str], locator: Locator) -> bool:
        """Take the top-level modules *heads* that are local, and what they import; return whether one was."""
        before, queue = len(self.files), list(heads)
        while queue:
            head = queue.pop()
            found = locator.local(head) if head not in self._seen else None
            self._seen.add(head)
            for path in self._of(found) if found is not None else ():
                queue.extend(self._imported(path, locator))
        return len(self.files) > before

    def _of(self, found: Found) -> list[Path]:
        """Take the files of a top-level module; return them."""
        taken: list[Path] = []
        for place in found.places:
            # An editable installation can call a directory by another name.
            mapped = found.kind == "package" and place.name != found.name
            root = place if mapped else place.parent
            if mapped:
                self._mapped[place] = found.name
            if root not in self.roots:
                self.roots.append(root)
            paths = [place] if found.kind == "module" else list(_Walk(self, place).files())
            self.files.update({self._name(path): path for path in paths})
            taken += paths
        return taken

    def _imported(self, path: Path, locator: Locator) -> set[str]:
        """Return the local modules that the source *path* imports; a docstring that looks like it is none."""
        if path.suffix != ".py":
            return set()
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        new = imports.candidates(text) - self._seen - self.imported
        new &= imports.imports(text) if new else set()
        local = {name for name in new if locator.local(name) is not None}
        self.imported |= new - local
        return local

    # -- the rest
    def argument(self, part: str) -> str:
        """Take *part* of a command where it is a file below the search file; return its name, else ""."""
        if part.startswith("-") or set(part) & set("{}") or "\0" in part or ".." in Path(part).parts:
            return ""
        name = name_below(part, str(self.base))
        file = self.base / name
        if not name or (file.parent.parent / "pyvenv.cfg").exists():
            # A copy of its interpreter would not find a virtual environment.
            return ""
        try:
            if not file.is_file() or file.stat().st_size > _ARGUMENT_BYTES:
                return ""
        except OSError:
            return ""
        if not self._add(name, file):
            return ""
        if file.suffix == ".py":
            locator = Locator([file.parent, self.base])
            self.modules(self._imported(file, locator), locator)
        return name

    def pattern(self, pattern: str) -> None:
        """Take the files that *pattern* names: whatever their size, and whether or not git ignores them."""
        matches = [path for path in sorted(self.base.glob(pattern)) if path.is_file()]
        if not matches:
            raise UsageError(f"files: {pattern!r} matches nothing below {self.base}")
        for path in matches:
            name = path.relative_to(self.base).as_posix()
            if not any(ignoring.never(self.base / parent) for parent in Path(name).parents if parent.name):
                self._add(name, path)

    def _add(self, name: str, path: Path) -> bool:
        """Take the file *path* that the search names; return whether it was taken."""
        if ignoring.secret(path.name):
            self.left_out.append(f"{name}: its name says that it holds a secret")
        elif not path.resolve().is_relative_to(self.base):
            self.left_out.append(f"{name}: a symbolic link that leads out of {self.base.name}/")
        elif not encodable(name):
            self.left_out.append(f"{os.fsencode(name)!r}: its name is no UTF-8")
        elif not self.patterns(self.base).match_file(name):
            self.files.setdefault(name, path)
            return True
        return False

    def patterns(self, folder: Path) -> ignoring.Patterns:
        """Return those of the ignore file in *folder*."""
        if folder not in self._patterns:
            self._patterns[folder] = ignoring.Patterns.of(folder)
        return self._patterns[folder]

    def _name(self, path: Path) -> str:
        """Return the name of *path* in the archive: as it is to the search file, where it is below that."""
        for place, head in self._mapped.items():
            if path.is_relative_to(place):
                return f"{self.place(place)}/{head}/{path.relative_to(place).as_posix()}"
        if path.is_relative_to(self.base):
            return path.relative_to(self.base).as_posix()
        root = next(root for root in self.roots if path.is_relative_to(root))
        return f"{self.place(root)}/{path.relative_to(root).as_posix()}"

    def place(self, root: Path) -> str:
        """Return the directory in the archive that stands for *root*."""
        outside = [one for one in self.roots if one in self._mapped or not one.is_relative_to(self.base)]
        if root not in outside:
            return "" if root == self.base else root.relative_to(self.base).as_posix()
        return f"{_OUTSIDE}/{outside.index(root) + 1}"


class _Walk:
    """The files of one package."""

    def __init__(self, taken: _Taken, top: Path) -> None:
        self._taken, self._top, self._real = taken, top, top.resolve()
        self._ignored, note = git.ignored(top)
        if note:
            taken.left_out.append(note)
        self._linked: set[Path] = set()

    def files(self) -> Iterator[Path]:
        """Yield the files that are taken, by name."""
        yield from self._below(self._top)

    def _below(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UsageError(f"{folder} cannot be read: {error.strerror}") from error
        for entry in entries:
            path = folder / entry.name
            name = path.relative_to(self._top).as_posix()
            if ignoring.never(path) or self._matched(path, folder=entry.is_dir()):
                continue
            if entry.is_symlink() and not self._inside(path, name):
                continue
            if entry.is_dir():
                if f"{name}/" not in self._ignored:
                    yield from self._below(path)
            elif entry.is_file() and self._wanted(entry, name):
                yield path

    def _matched(self, path: Path, *, folder: bool) -> bool:
        """Return whether an ignore file of the package, its root or the search names *path*."""
        for place in dict.fromkeys((self._top, self._top.parent, self._taken.base)):
            if path.is_relative_to(place):
                name = path.relative_to(place).as_posix()
                if self._taken.patterns(place).match(name, folder=folder):
                    return True
        return False

    def _inside(self, path: Path, name: str) -> bool:
        """Return whether the symbolic link *path* is followed: not out of the package, not in circles."""
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            self._leave_out(name, "a symbolic link that leads nowhere")
            return False
        if not real.is_relative_to(self._real):
            self._leave_out(name, f"a symbolic link that leads out of {self._top.name}/")
            return False
        if real.is_dir():
            if real in self._linked or path.parent.resolve().is_relative_to(real):
                return False
            self._linked.add(real)
        return True

    def _wanted(self, entry: os.DirEntry[str], name: str) -> bool:
        module = entry.name.endswith(SUFFIXES)
        if not module and name in self._ignored:
            # But not modules: what is built or generated is ignored by git, and imported all the same.
            return False
        size = entry.stat().st_size
        if ignoring.secret(entry.name):
            self._leave_out(name, "its name says that it holds a secret")
        elif not encodable(name):
            self._leave_out(repr(os.fsencode(name)), "its name is no UTF-8")
        elif not module and size > DATA_BYTES:
            hint = f"`files` takes it, {ignoring.IGNORE_FILE} forgets it"
            self._leave_out(name, f"{size >> 20} MiB of data; {hint}")
        else:
            return True
        return False

    def _leave_out(self, name: str, why: str) -> None:
        self._taken.left_out.append(f"{self._top.name}/{name}: {why}")


def encodable(name: str) -> bool:
    """Return whether *name* is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pack(taken: _Taken, programs: Sequence[str], *, module: bool) -> Snapshot:
    taken.files.pop(archive.MANIFEST, None)
    sizes = {name: _size(path) for name, path in taken.files.items()}
    total = sum(sizes.values())
    if total > MAX_BYTES or len(sizes) > MAX_FILES:
        raise _too_large(sizes, total)
    try:
        contents = {name: path.read_bytes() for name, path in sorted(taken.files.items())}
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    manifest = Manifest(
        roots=tuple(map(taken.place, taken.roots)),
        programs=tuple(dict.fromkeys(programs)),
        executable=tuple(name for name in contents if os.access(taken.files[name], os.X_OK)),
        module=module,
    )
    return archive.pack(contents, manifest, taken.left_out)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _too_large(sizes: dict[str, int], total: int) -> UsageError:
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_SHOWN]
    shown = ", ".join(f"{name!r} {sizes[name] / (1 << 20):.1f} MiB" for name in largest)
    folders: dict[str, int] = {}
    for name in sizes:
        folders[os.path.dirname(name)] = folders.get(os.path.dirname(name), 0) + 1
    fullest = max(folders, key=lambda name: folders[name])
    return UsageError(
        f"the sources of the search are {len(sizes):,} files, {total / (1 << 20):.1f} MiB; "
        f"at most {MAX_FILES:,} files and {MAX_BYTES >> 20} MiB are kept\n"
        f"  the largest are {shown}; {folders[fullest]:,} files are in {fullest or '.'!r}",
        hint=f"name what is no source in {ignoring.IGNORE_FILE} (like .gitignore) beside the search "
        "file, or write `snapshot: none` to run the sources where they are",
    )
