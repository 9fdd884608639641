"""The user's sources: found without being imported, and complete in code.zip."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpc_search.errors import UsageError
from hpc_search.planning import code
from hpc_search.planning.code import Reference, parse_reference


def write(base: Path, **files: str) -> Path:
    """Write modules; ``a__b`` is the file a/b.py."""
    for name, text in files.items():
        path = base / (name.replace("__", "/").replace("/INIT", "/__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return base


def taken(base: Path, module: str = "train", *patterns: str) -> tuple[str, ...]:
    return code.snapshot(base, [Reference(module, "train")], patterns).files


def check(base: Path, text: str, function: str = "train") -> None:
    path = base / "train.py"
    path.write_text(text)
    code.check_function(Reference("train", function), path)


@pytest.mark.parametrize(
    ("text", "module", "function"),
    [
        ("train.py:train", "train", "train"),
        ("./train.py:train", "train", "train"),
        ("lab/train.py:fit", "lab.train", "fit"),
        ("package.module:function", "package.module", "function"),
    ],
)
def test_a_callable_is_a_module_or_a_file(text: str, module: str, function: str) -> None:
    assert parse_reference(text) == (module, function)


def test_a_module_beside_the_search_file_comes_first(tmp_path: Path) -> None:
    write(tmp_path, json="x = 1")
    assert code.find_source(Reference("json", "x"), tmp_path) == tmp_path / "json.py"


def test_installed_modules_are_found_and_built_in_ones_have_no_source(tmp_path: Path) -> None:
    found = code.find_source(Reference("json.decoder", "JSONDecoder"), tmp_path)
    assert found is not None
    assert found.name == "decoder.py"
    assert code.find_source(Reference("numpy", "mean"), tmp_path) is not None


@pytest.mark.parametrize("module", ["no_such_module", "json.no_such", "", ".train"])
def test_a_module_that_is_nowhere_is_named(tmp_path: Path, module: str) -> None:
    with pytest.raises(UsageError, match="is not found"):
        code.find_source(Reference(module, "train"), tmp_path)


def test_a_file_is_never_imported(tmp_path: Path) -> None:
    write(tmp_path, train="raise SystemExit('imported')\ndef train(trial): pass\n")
    path = code.find_source(Reference("train", "train"), tmp_path)
    assert path is not None
    code.check_function(Reference("train", "train"), path)
    assert taken(tmp_path) == ("train.py",)


@pytest.mark.parametrize(
    "text",
    [
        "def train(trial): pass",
        "async def train(trial): pass",
        "class train: pass",
        "train = print",
        "train: object = print",
        "from os import path as train",
        "import os as train",
        "from os import *",
        "try:\n    from x import train\nexcept ImportError:\n    def train(trial): pass",
        "if True:\n    def train(trial): pass",
        "with open('x') as f:\n    def train(trial): pass",
        "train, other = 1, 2",
    ],
)
def test_a_function_may_come_to_its_name_in_any_way(tmp_path: Path, text: str) -> None:
    check(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["", "def other():\n    def train(): pass", "class A:\n    def train(self): pass"]
)
def test_a_function_that_is_not_at_the_top_is_missing(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="has no function 'train'"):
        check(tmp_path, text)


def test_a_near_miss_is_offered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'train_model'"):
        check(tmp_path, "def train_model(trial): pass", "train_modle")
    with pytest.raises(UsageError, match="it defines: alpha, beta"):
        check(tmp_path, "alpha = 1\nbeta = 2")


@pytest.mark.parametrize("text", ["def train(:\n    pass\n", "x = 'a\n", "def f():\nreturn\n"])
def test_a_syntax_error_names_file_and_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"train\.py:\d: the file is not valid Python: "):
        check(tmp_path, text)


@pytest.mark.parametrize("content", [b"x = 1\0", b"# coding: no-such-codec\n", b"\xff\xfe"])
def test_a_file_that_is_no_text_is_not_valid_python(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not valid Python"):
        code.check_function(Reference("train", "train"), path)


# -- what is taken along
def test_local_imports_are_taken_and_installed_ones_are_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="import os, numpy, first\nfrom second import thing\ndef train(t):\n    import third",
        first="import fourth",
        second="",
        third="",
        fourth="import train",
        unused="",
    )
    assert set(taken(tmp_path)) == {"train.py", "first.py", "second.py", "third.py", "fourth.py"}


def test_packages_are_taken_with_their_init_files_and_relative_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        lab__INIT="from . import base",
        lab__base="",
        lab__models__INIT="",
        lab__models__net="from ..data import load",
        lab__models__old="",
        lab__data="from .io import read as r",
        lab__io="",
        lab__train="from .models import net",
    )
    assert set(taken(tmp_path, "lab.train")) == {
        "lab/__init__.py",
        "lab/base.py",
        "lab/models/__init__.py",
        "lab/models/net.py",
        "lab/data.py",
        "lab/io.py",
        "lab/train.py",
    }


def test_a_relative_import_that_leaves_the_package_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, train="from ....x import y\nfrom . import z")
    assert taken(tmp_path) == ("train.py",)


def test_extra_files_are_taken_by_pattern_and_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    write(tmp_path, train="", plugins__a="", plugins__b="")
    (tmp_path / "vocab.txt").write_text("x")
    assert set(taken(tmp_path, "train", "plugins/*.py", "vocab.txt")) == {
        "train.py",
        "plugins/a.py",
        "plugins/b.py",
        "vocab.txt",
    }
    with pytest.raises(UsageError, match=r"'nothing/\*' matches nothing"):
        taken(tmp_path, "train", "nothing/*")


def test_data_named_by_mistake_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, train="")
    monkeypatch.setattr(code, "MAX_BYTES", 1 << 20)
    (tmp_path / "data.bin").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UsageError, match="2 files, 1 MiB"):
        taken(tmp_path, "train", "data.bin")
    monkeypatch.setattr(code, "MAX_FILES", 1)
    with pytest.raises(UsageError, match="2 files"):
        taken(tmp_path, "train", "data.bin")


def test_the_archive_is_the_same_bytes_for_the_same_sources(tmp_path: Path) -> None:
    write(tmp_path, train="import first", first="")
    one = code.snapshot(tmp_path, [Reference("train", "train")], ())
    (tmp_path / "first.py").touch()
    two = code.snapshot(tmp_path, [Reference("train", "train")], ())
    assert (one.data, one.digest) == (two.data, two.digest)
    (tmp_path / "first.py").write_text("x = 1")
    assert code.snapshot(tmp_path, [Reference("train", "train")], ()).digest != one.digest


def test_what_lives_in_installed_packages_needs_no_archive(tmp_path: Path) -> None:
    assert code.snapshot(tmp_path, [Reference("json", "dumps")], ()) == (b"", "", ())


def test_sources_run_from_the_archive_alone(tmp_path: Path) -> None:
    """Packages with and without __init__.py, and sub-packages of both."""
    base = write(
        tmp_path / "base",
        train="import lab.deep.net, plain.tools.x\ndef train(t): return lab.deep.net.f() + plain.tools.x.g()",
        lab__INIT="",
        lab__deep__INIT="",
        lab__deep__net="from ..helper import f",
        lab__helper="def f(): return 1",
        plain__tools__x="def g(): return 2",
    )
    archive = tmp_path / "code.zip"
    archive.write_bytes(code.snapshot(base, [Reference("train", "train")], ()).data)
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as opened:
        assert opened.testzip() is None
    program = f"import sys; sys.path.insert(0, {str(archive)!r}); import train; print(train.train(None))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3\n", "")
