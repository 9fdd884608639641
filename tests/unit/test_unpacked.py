"""Sources on a node: one directory for all workers, put right where it differs, gone with the last one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_search.errors import TemporaryError
from hpc_search.planning import archive
from hpc_search.planning.archive import Manifest, Snapshot
from hpc_search.worker import unpacked
from hpc_search.worker.unpacked import Code, Unpacked, unpack

BOOT = "0123456789abcdef"
FILES = {"train.py": b"x = 1\n", "lab/__init__.py": b"", "lab/data/w.txt": b"w", "run.sh": b"#!/bin/sh\n"}
MANIFEST = Manifest(roots=("", "src"), programs=("train.py", "run.sh"), executable=("run.sh",))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def packed(files: Mapping[str, bytes] = FILES) -> Snapshot:
    return archive.pack(files, MANIFEST)


def opened(tmp_path: Path, files: Mapping[str, bytes] = FILES, boot: str = BOOT) -> Unpacked:
    made = packed(files)
    path = tmp_path / "code.zip"
    path.write_bytes(made.data)
    return unpack(archive.read(path, made.digest), made.digest, boot)


def own(temporary: Path) -> Path:
    return temporary / f"hpc_search-{os.getuid()}"


def test_workers_share_one_directory_that_goes_with_the_last(tmp_path: Path, temporary: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    assert one.code == two.code
    folder = Path(one.code.folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        *FILES, archive.MANIFEST,
    }  # fmt: skip
    one.close()
    assert folder.is_dir()
    two.close()
    assert list(own(temporary).iterdir()) == []


def test_nobody_else_may_look_and_files_are_not_written_by_mistake(tmp_path: Path, temporary: Path) -> None:
    folder = Path(opened(tmp_path).code.folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (own(temporary), folder, *folder.iterdir())}
    assert modes[folder.name] == modes[own(temporary).name] == modes["lab"] == 0o700
    assert (modes["train.py"], modes["run.sh"]) == (0o400, 0o500)


def test_a_changed_or_missing_file_is_put_right(tmp_path: Path) -> None:
    one = opened(tmp_path)
    folder = Path(one.code.folder)
    (folder / "train.py").unlink()
    (folder / "lab/data/w.txt").chmod(0o600)
    (folder / "lab/data/w.txt").write_bytes(b"changed")
    opened(tmp_path)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_what_a_killed_worker_left_is_removed_by_the_next(tmp_path: Path, temporary: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from hpc_search.planning import archive;"
        "from hpc_search.worker.unpacked import unpack; import tempfile; tempfile.tempdir = sys.argv[1];"
        f"unpack({{'a.py': b''}}, 'killed', {BOOT!r}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(temporary)], check=False)
    assert [path.name for path in own(temporary).iterdir()] == [f"killed-{BOOT[:8]}"]
    other_boot = own(temporary) / "other-00000000"
    other_boot.mkdir()
    held = opened(tmp_path)
    assert {path.name for path in own(temporary).iterdir()} == {Path(held.code.folder).name, other_boot.name}


def test_other_code_that_is_held_is_left(tmp_path: Path) -> None:
    one = opened(tmp_path)
    opened(tmp_path, {"other.py": b""})
    assert Path(one.code.folder).is_dir()


@pytest.mark.parametrize("kind", ["open to others", "a file", "a link"])
def test_a_directory_that_somebody_else_prepared_is_not_used(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    monkeypatch.setattr(unpacked, "_places", lambda: iter([temporary, second]))
    if kind == "a file":
        own(temporary).write_text("")
    elif kind == "a link":
        (tmp_path / "target").mkdir(mode=0o700)
        own(temporary).symlink_to(tmp_path / "target")
    else:
        own(temporary).mkdir()
        own(temporary).chmod(0o777)
    assert Path(opened(tmp_path).code.folder).parent == own(second)


def test_no_room_on_a_node_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "_places", lambda: iter([tmp_path / "missing"]))
    with pytest.raises(TemporaryError, match=r"cannot be unpacked on this node .*No such file") as error:
        opened(tmp_path)
    assert "TMPDIR" in error.value.hint


def test_many_workers_come_and_go_at_once(tmp_path: Path, temporary: Path) -> None:
    made = packed()
    path = tmp_path / "code.zip"
    path.write_bytes(made.data)
    contents = archive.read(path, made.digest)
    wrong: list[str] = []

    def come_and_go() -> None:
        for _ in range(20):
            held = unpack(contents, made.digest, BOOT)
            folder = Path(held.code.folder)
            try:
                wrong.extend(name for name in FILES if (folder / name).read_bytes() != FILES[name])
            except OSError as error:
                wrong.append(str(error))
            held.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(own(temporary).iterdir()) == []


def test_arguments_of_a_command_become_the_kept_copies(tmp_path: Path) -> None:
    code = Code(("/k", "/k/src"), "digest", "/k", frozenset({"train.py", "sub/x.sh"}))
    given = ["train.py", "./train.py", "sub//x.sh", "other.py", "--f=train.py", "{x}"]
    assert list(map(code.argument, given)) == [
        "/k/train.py", "/k/train.py", "/k/sub/x.sh", "other.py", "--f=train.py", "{x}",
    ]  # fmt: skip
    assert code.environment({"PYTHONPATH": "/mine"}) == {
        "PYTHONPATH": "/k:/k/src:/mine", "HPC_SEARCH_CODE": "/k",
    }  # fmt: skip
    code = replace(code, base=str(tmp_path))
    assert code.argument(f"{tmp_path}/train.py") == "/k/train.py"
    assert code.argument("/elsewhere/train.py") == "/elsewhere/train.py"
    assert Code().environment({"PYTHONPATH": "/mine"}) == {}
    assert Code().argument("train.py") == "train.py"


def test_extension_modules_namespaces_and_data_are_imported_from_the_directory(tmp_path: Path) -> None:
    import _csv

    files = {
        "lab/__init__.py": b"", "lab/w.txt": b"data", "space/part/x.py": b"Y = 2",
    }  # fmt: skip
    source = getattr(_csv, "__file__", None)
    if source is None:
        pytest.skip("this Python has its extension modules built in")
    files["lab/" + Path(source).name] = Path(source).read_bytes()
    held = opened(tmp_path, files)
    program = (
        "import sys; from hpc_search.runners.child import keep_first; keep_first(sys.argv[1:]);"
        "import lab._csv, space.part.x; from importlib.resources import files;"
        "print(lab._csv.reader.__name__, space.part.x.Y, files('lab').joinpath('w.txt').read_text(),"
        "open(lab.__file__.replace('__init__.py', 'w.txt')).read())"
    )
    argv = [sys.executable, "-c", program, *held.code.roots]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("reader 2 data data\n", "")


def test_kept_sources_win_over_a_finder_that_comes_first(tmp_path: Path) -> None:
    """As those of meson-python and scikit-build-core do."""
    held = opened(tmp_path, {"lab/__init__.py": b"W = 'kept'", "lab/sub.py": b"W = 'kept'"})
    live = tmp_path / "live/lab"
    live.mkdir(parents=True)
    for name in ("__init__.py", "sub.py", "built.py"):
        (live / name).write_text("W = 'live'")
    program = (
        "import sys; from importlib.util import spec_from_file_location as spec\n"
        "class Live:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        root = {str(live)!r}\n"
        "        file = {'lab': '/__init__.py', 'lab.sub': '/sub.py', 'lab.built': '/built.py'}.get(name)\n"
        "        below = [root] if name == 'lab' else None\n"
        "        return file and spec(name, root + file, submodule_search_locations=below)\n"
        "sys.meta_path.insert(0, Live())\n"
        "from hpc_search.runners.child import keep_first; keep_first(sys.argv[1:])\n"
        "import lab.sub, lab.built; print(lab.W, lab.sub.W, lab.built.W)"
    )
    argv = [sys.executable, "-c", program, *held.code.roots]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    # What is only built elsewhere is still found there.
    assert (done.stdout, done.stderr) == ("kept kept live\n", "")


def test_an_archive_that_was_cut_is_damaged(tmp_path: Path) -> None:
    from hpc_search.errors import DamagedError

    made = packed()
    path = tmp_path / "code.zip"
    for size in range(0, len(made.data), 37):
        path.write_bytes(made.data[:size])
        with pytest.raises(DamagedError, match=r"code\.zip cannot be read"):
            archive.read(path, made.digest)
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("train.py", b"x = 2\n")
    with pytest.raises(DamagedError, match="its digest differs"):
        archive.read(path, made.digest)


def test_what_is_changed_or_removed_is_said_and_put_right(tmp_path: Path) -> None:
    snapshot = packed()
    one, two = opened(tmp_path), opened(tmp_path)

    def contents() -> dict[str, bytes]:
        return dict(archive.read(tmp_path / "code.zip", snapshot.digest))

    folder = Path(one.code.folder)
    assert one.mended(contents) == ""
    (folder / "train.py").chmod(0o600)
    (folder / "train.py").write_text("raise SystemExit")
    (folder / "lab" / "__init__.py").unlink()
    assert "2 files of the run's sources were changed or removed" in one.mended(contents)
    assert (folder / "train.py").read_bytes() == FILES["train.py"]
    assert one.mended(contents) == ""
    # Whoever looks after that knows that its trial may have met them.
    assert "2 files" in two.mended(contents)

    shutil.rmtree(folder)
    assert "changed or removed" in one.mended(contents)
    assert (folder / "lab" / "__init__.py").exists()
    assert "changed or removed" in two.mended(contents)
    one.close()
    assert folder.is_dir()
    two.close()
    assert not folder.exists()
