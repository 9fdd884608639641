"""What is never, or not by default, part of a snapshot of sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

#: A file of the user's with patterns as in .gitignore.
IGNORE_FILE: Final = ".hpcsearchignore"
#: Directories that hold no sources.
_FOLDERS: Final = frozenset(
    {
        *("__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox", ".nox", ".eggs"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".idea", ".vscode", ".ssh"),
        *("checkpoints", "wandb", "mlruns", "lightning_logs"),
    }
)
_COMPILED: Final = (".pyc", ".pyo")
_SECRET: Final = re.compile(
    r"\.env(\..*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk)|id_(rsa|dsa|ecdsa|ed25519).*"
    r"|\.(netrc|pgpass|npmrc|pypirc|git-credentials|htpasswd|dockercfg)"
    r"|(.*[^a-z])?(secret|credential)s?([^a-z].*)?"
    # Files of tokenizers are called tokenizer.json, special_tokens_map.json, added_tokens.json.
    r"|(.*[^a-z])?token(\.[a-z]{1,5})?",
    re.DOTALL,
)


def secret(name: str) -> bool:
    """Return whether a file is called as files are that hold keys, tokens or passwords.

    A Python module never is: its name is what it is about, and importing needs it.
    """
    return not name.endswith(".py") and _SECRET.fullmatch(name.lower()) is not None


def never(path: Path) -> bool:
    """Return whether built-in rules leave out the file or directory *path*, by its name or as a run."""
    name = path.name
    return name in _FOLDERS or name.endswith(_COMPILED) or name.startswith(".t-") or _is_run(path)


def _is_run(path: Path) -> bool:
    return (path / "plan.json").exists() and (path / "ledger").is_dir()


class _Rule(NamedTuple):
    expression: re.Pattern[str]
    keeps: bool
    folders_only: bool


class Patterns:
    """The patterns of an ignore file; the last one that matches decides."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Hold the patterns *lines*: as in .gitignore, relative to the directory of the file."""
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    @classmethod
    def of(cls, folder: Path) -> Patterns:
        """Return those of the ignore file in *folder*; none where there is no such file."""
        try:
            text = (folder / IGNORE_FILE).read_text(errors="replace")
        except OSError:
            return cls()
        return cls(text.splitlines())

    def match(self, name: str, *, folder: bool = False) -> bool:
        """Return whether *name*, relative to the ignore file, is left out."""
        ignored = False
        for rule in self._rules:
            if (folder or not rule.folders_only) and rule.expression.fullmatch(name):
                ignored = not rule.keeps
        return ignored

    def match_file(self, name: str) -> bool:
        """Return whether the file *name* is left out, by itself or with a directory above it."""
        parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
        return self.match(name) or any(self.match(parent, folder=True) for parent in parents)


def _rule(line: str) -> _Rule | None:
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    keeps = text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    folders_only, text = text.endswith("/"), text.rstrip("/")
    anchored = "/" in text
    body = _expression(text.lstrip("/"))
    try:
        expression = re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL)
    except re.error:
        # A bracket that git would not take either.
        return None
    return _Rule(expression, keeps, folders_only)


@lru_cache(256)
def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern: ``*`` and ``?`` stay in a name, ``**`` does not."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = f"{out}(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = f"{out}.*", at + 2
        elif pattern[at] in "*?":
            out, at = out + ("[^/]*" if pattern[at] == "*" else "[^/]"), at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            inside = f"^{inside[1:]}" if inside.startswith("!") else inside
            out, at = f"{out}[{inside}]", end + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return out
