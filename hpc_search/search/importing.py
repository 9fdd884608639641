"""Search files from those of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hpc_search import durable
from hpc_search.errors import UsageError

if TYPE_CHECKING:
    from hpc_search.config.sequifier import Imported


def import_file(old: Path, trial: str, to: Path | None = None) -> Imported:
    """Return the search file made from *old*, after writing it to *to*; a file with another text stays.

    Raises:
        UsageError: *old* cannot be read or imported (ConfigError: every problem), or *to* is another file.
    """
    from hpc_search.config.files import read_bytes
    from hpc_search.config.sequifier import import_sequifier

    imported = import_sequifier(read_bytes(old, "file to import"), str(old), trial)
    if to is None:
        return imported
    content = imported.text.encode()
    if to.exists():
        if to.is_file() and read_bytes(to, "search file") == content:
            return imported
        raise UsageError(f"{to} is there already", hint="write to another file with -o FILE")
    try:
        durable.write_file(to, content)
    except OSError as error:
        raise UsageError(f"{to}: {error.strerror}", hint="write to another file with -o FILE") from error
    return imported
