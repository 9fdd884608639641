"""The function that a search file names: found, and looked at, without being imported."""

from __future__ import annotations

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
