"""code.zip: the user's sources as one file with the same bytes for the same sources, and reading it again."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import msgspec

from hpc_search.errors import PASSING, DamagedError, TemporaryError

#: In the archive: how it is used.
MANIFEST: Final = ".hpc_search.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class Manifest(msgspec.Struct, frozen=True):
    """How the files are used.

    ``roots`` are the directories that modules are imported from, first one first; ``programs`` arguments of
    the command that are files here; ``executable`` files that can be run; ``module``: whether the command
    is ``python -m`` of a module here.
    """

    roots: tuple[str, ...] = ("",)
    programs: tuple[str, ...] = ()
    executable: tuple[str, ...] = ()
    module: bool = False


def name_below(part: str, base: str) -> str:
    """Return the name below *base* of the file *part* of a command; "" for an absolute path elsewhere."""
    if not os.path.isabs(part):
        return os.path.normpath(part)
    name = os.path.relpath(os.path.realpath(part), os.path.realpath(base))
    return "" if name.split("/")[0] == ".." else name


class Snapshot(NamedTuple):
    """An archive and its digest; ``data`` is empty where nothing local is needed.

    ``files`` maps its names to bytes; ``left_out`` says what was not taken, and why.
    """

    data: bytes = b""
    digest: str = ""
    files: Mapping[str, int] = {}
    manifest: Manifest = Manifest()
    left_out: tuple[str, ...] = ()


def pack(contents: Mapping[str, bytes], manifest: Manifest, left_out: Iterable[str] = ()) -> Snapshot:
    """Return the snapshot of *contents* (name -> bytes)."""
    if not contents:
        return Snapshot(left_out=tuple(left_out))
    whole = dict(sorted({**contents, MANIFEST: msgspec.json.encode(manifest)}.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in whole.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    sizes = {name: len(content) for name, content in sorted(contents.items())}
    return Snapshot(buffer.getvalue(), digest_of(whole), sizes, manifest, tuple(left_out))


def digest_of(contents: Mapping[str, bytes]) -> str:
    """Return the digest of the files of an archive."""
    digest = hashlib.blake2b(digest_size=16)
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def read(path: Path, digest: str) -> dict[str, bytes]:
    """Return the files of the archive at *path*, by name.

    Raises:
        DamagedError: They do not have *digest*.
        TemporaryError: The file system does not give it now; that says nothing of the code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except OSError as error:
        if error.errno in PASSING:
            hint = "`submit` again when the file system answers"
            raise TemporaryError(f"{path} cannot be read ({error.strerror})", hint=hint) from error
        raise DamagedError(f"{path} cannot be read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    # Names that leave the directory cannot be ours.
    safe = not any(
        PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in contents
    )
    if not safe or digest_of(contents) != digest:
        raise DamagedError(f"{path} is not what was planned: its digest differs")
    return contents


def manifest_of(contents: Mapping[str, bytes]) -> Manifest:
    """Return how the files of an archive are used; one without a manifest has one root."""
    data: Any = contents.get(MANIFEST)
    return msgspec.json.decode(data, type=Manifest) if data is not None else Manifest()
