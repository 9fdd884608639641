"""Which files a snapshot takes: whole packages, what they import from elsewhere, never a secret."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpc_search.errors import DamagedError, UsageError
from hpc_search.planning import archive, sources
from hpc_search.planning.archive import MANIFEST, Manifest
from hpc_search.planning.sources import Sources, take
from hpc_search.records.search import TrialSpec
from tests.unit.test_planning_code import write


def of(base: Path, trial: str = "train:train", *patterns: str, command: tuple[str, ...] = ()) -> Sources:
    return take([TrialSpec(callable="" if command else trial, command=command, files=patterns)], base)


def taken(base: Path, module: str = "train", *patterns: str) -> tuple[str, ...]:
    return tuple(of(base, f"{module}:train", *patterns).snapshot.files)


def left_out(base: Path, *patterns: str) -> str:
    return "\n".join(of(base, "train:train", *patterns).snapshot.left_out)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on sys.path that is no installation: an editable one, or PYTHONPATH."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


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


# -- packages
def test_a_package_is_taken_whole_with_its_data(tmp_path: Path) -> None:
    write(tmp_path, lab__INIT="", lab__train="", lab__plugins__late="")
    (tmp_path / "lab/vocab.json").write_text("{}")
    assert set(taken(tmp_path, "lab.train")) == {
        "lab/__init__.py", "lab/train.py", "lab/plugins/late.py", "lab/vocab.json",
    }  # fmt: skip


def test_packages_and_modules_outside_of_the_search_are_taken_too(tmp_path: Path, elsewhere: Path) -> None:
    base = write(tmp_path / "base", train="def train(t):\n    import mylib.net, single")
    write(elsewhere, mylib__INIT="import other", mylib__net="", single="", other__INIT="", unused="")
    found = of(base)
    assert set(found.snapshot.files) == {
        "train.py", ".outside/1/mylib/__init__.py", ".outside/1/mylib/net.py", ".outside/1/single.py",
        ".outside/1/other/__init__.py",
    }  # fmt: skip
    assert found.snapshot.manifest.roots == ("", ".outside/1")
    assert found.roots == (base, elsewhere)


def test_a_src_layout_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, src__mylib__INIT="", train="import mylib")
    monkeypatch.syspath_prepend(tmp_path / "src")
    found = of(tmp_path)
    assert set(found.snapshot.files) == {"train.py", "src/mylib/__init__.py"}
    assert found.snapshot.manifest.roots == ("", "src")


def test_a_package_below_src_is_found_without_an_installation_after_what_is_installed(tmp_path: Path) -> None:
    write(
        tmp_path, src__mylib__INIT="", src__mylib__train="import yaml\nimport mylib.net", src__mylib__net=""
    )
    write(tmp_path, src__yaml="")
    found = sources.take([TrialSpec(callable="mylib.train:train")], tmp_path)
    names = {f"src/mylib/{name}.py" for name in ("__init__", "train", "net")}
    assert set(found.snapshot.files) == names
    assert found.snapshot.manifest.roots == ("", "src")
    # A module named by its file may import its package by name.
    by_file = sources.take([TrialSpec(callable="src/mylib/train.py:train")], tmp_path)
    assert names <= set(by_file.snapshot.files)
    assert by_file.snapshot.manifest.roots == ("", "src")


def test_what_is_installed_is_not_taken_but_named(tmp_path: Path) -> None:
    write(tmp_path, train="import numpy, yaml, os, nowhere\nimport hpc_search")
    found = of(tmp_path)
    assert tuple(found.snapshot.files) == ("train.py",)
    assert {"numpy", "yaml"} <= found.imported


def test_a_target_installation_is_installed(tmp_path: Path, elsewhere: Path) -> None:
    base = write(tmp_path / "base", train="import mylib")
    write(elsewhere, mylib__INIT="")
    (elsewhere / "mylib-1.0.dist-info").mkdir()
    assert taken(base) == ("train.py",)


def test_namespace_packages_are_taken_and_mere_directories_are_not(tmp_path: Path) -> None:
    write(tmp_path, train="import models.net\nimport results", models__net="", models__deep__other="")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/values.csv").write_text("1")
    assert set(taken(tmp_path)) == {"train.py", "models/net.py", "models/deep/other.py"}


def test_a_docstring_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path, train='"""\nimport data from a table\n"""', data="")
    assert taken(tmp_path) == ("train.py",)


def test_modules_named_in_a_call_are_taken(tmp_path: Path) -> None:
    write(tmp_path, train='import importlib\nimportlib.import_module("plugin")', plugin="")
    assert set(taken(tmp_path)) == {"train.py", "plugin.py"}


# -- commands
def test_the_files_of_a_command_and_their_imports_are_taken(tmp_path: Path) -> None:
    write(tmp_path, train="import helper", helper="", sub__tool="import beside", sub__beside="")
    (tmp_path / "conf.yaml").write_text("x: 1")
    (tmp_path / "large.csv").write_bytes(bytes((1 << 20) + 1))
    command = (
        "python",
        "train.py",
        "./conf.yaml",
        "sub/tool.py",
        "large.csv",
        "--lr",
        "{lr}",
        "../x",
        "/etc/hosts",
    )
    found = of(tmp_path, command=command).snapshot
    assert set(found.files) == {"train.py", "helper.py", "conf.yaml", "sub/tool.py", "sub/beside.py"}
    assert found.manifest.programs == ("train.py", "conf.yaml", "sub/tool.py")

    absolute = of(tmp_path, command=("python", f"{tmp_path}/train.py", f"{tmp_path.parent}/x.py")).snapshot
    assert set(absolute.files) == {"train.py", "helper.py"}
    assert absolute.manifest.programs == ("train.py",)


def test_the_interpreter_of_a_virtual_environment_is_not_taken(tmp_path: Path) -> None:
    """A copy of it would not find its environment."""
    write(tmp_path, train="")
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "env" / "bin" / "python").write_bytes(b"x")
    found = of(tmp_path, command=("env/bin/python", "train.py")).snapshot
    assert set(found.files) == {"train.py"}


def test_a_program_is_only_local_with_a_slash(tmp_path: Path) -> None:
    write(tmp_path, train="")
    (tmp_path / "python").write_text("")
    assert of(tmp_path, command=("python", "train.py")).snapshot.manifest.programs == ("train.py",)
    (tmp_path / "run.sh").write_text("#!/bin/sh")
    (tmp_path / "run.sh").chmod(0o700)
    manifest = of(tmp_path, command=("./run.sh",)).snapshot.manifest
    assert (manifest.programs, manifest.executable) == (("run.sh",), ("run.sh",))


def test_python_m_takes_the_module(tmp_path: Path) -> None:
    write(tmp_path, lab__INIT="", lab__train="")
    found = of(tmp_path, command=("python", "-m", "lab.train")).snapshot
    assert set(found.files) == {"lab/__init__.py", "lab/train.py"}
    assert found.manifest.module


# -- what is left out
@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "key.pem", "id_rsa", "id_ed25519.pub", "client_secret.json", "credentials",
     ".netrc",
     "hf_token.txt", "token", "wandb-token.json", "server.key", "aws.credentials.ini", "SECRETS.yaml"],
)  # fmt: skip
def test_secrets_are_never_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path, lab__INIT="", train="import lab")
    (tmp_path / "lab" / name).write_text("x")
    (tmp_path / name).write_text("x")
    assert set(taken(tmp_path, "train", name)) == {"train.py", "lab/__init__.py"}
    said = left_out(tmp_path, name)
    assert f"lab/{name}: its name says that it holds a secret" in said
    assert f"\n{name}: its name says" in f"\n{said}"


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "special_tokens_map.json", "added_tokens.json", "tokens.txt",
             "token_embedding.py", "secretary.txt", "environment.yml", "monkey.csv"]
)  # fmt: skip
def test_tokenizers_are_no_secrets(tmp_path: Path, name: str) -> None:
    write(tmp_path, lab__INIT="", train="import lab")
    (tmp_path / "lab" / name).write_text("x = 1")
    assert f"lab/{name}" in taken(tmp_path)


def test_built_in_rules_hold_without_git(tmp_path: Path) -> None:
    write(tmp_path, lab__INIT="", train="import lab", lab__runs__old__ledger__x="")
    for name in (
        "__pycache__/a.pyc",
        ".git/config",
        "node_modules/x.js",
        ".venv/x.py",
        "checkpoints/a.pt",
        "old.pyc",
    ):
        path = tmp_path / "lab" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (tmp_path / "lab/runs/old/plan.json").write_text("{}")
    assert set(taken(tmp_path)) == {"train.py", "lab/__init__.py"}


def test_gitignore_is_honoured_and_modules_are_taken_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, train="import lab", lab__INIT="", lab___version="", lab__out__x="")
    (tmp_path / "lab/fast.so").write_bytes(b"ELF")
    (tmp_path / "lab/notes.txt").write_text("")
    (tmp_path / "lab/kept.txt").write_text("")
    (tmp_path / ".gitignore").write_text("notes.txt\nout/\n_version.py\n*.so\n")
    git(tmp_path, "init", "-q")
    # What is built or generated is imported: it is taken; an ignored directory is not.
    assert set(taken(tmp_path)) == {
        "train.py", "lab/__init__.py", "lab/_version.py", "lab/fast.so", "lab/kept.txt",
    }  # fmt: skip


def test_an_ignore_file_of_our_own_is_honoured(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="import lab",
        lab__INIT="",
        lab__a__big="",
        lab__b="",
        lab__c__keep="",
        lab__c__drop="",
    )
    (tmp_path / ".hpcsearchignore").write_text("# words\nlab/a/\n/lab/b.py\n[broken\nlab/c/*\n!keep.py\n")
    assert set(taken(tmp_path)) == {"train.py", "lab/__init__.py", "lab/c/keep.py"}


def test_a_link_out_of_a_package_is_not_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, train="import lab", lab__INIT="", lab__deep__a="", outside__x="")
    (tmp_path / "lab/loop").symlink_to(".")
    (tmp_path / "lab/deep/up").symlink_to("..")
    (tmp_path / "lab/out").symlink_to("../outside")
    (tmp_path / "lab/nowhere").symlink_to("gone")
    (tmp_path / "lab/alias.py").symlink_to("deep/a.py")
    (tmp_path / "lab/also").symlink_to("deep")
    (tmp_path / "lab/fifo").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "lab/fifo")
    assert set(taken(tmp_path)) == {
        "train.py", "lab/__init__.py", "lab/deep/a.py", "lab/alias.py", "lab/also/a.py",
    }  # fmt: skip
    said = left_out(tmp_path)
    assert "lab/out: a symbolic link that leads out of lab/" in said
    assert "lab/nowhere: a symbolic link that leads nowhere" in said


def test_hostile_names_are_kept_or_named(tmp_path: Path) -> None:
    write(tmp_path, train="import lab", lab__INIT="")
    for name in ("with space", "new\nline", "quote'\"", "-rf", "back\\slash", "\u202e", "x" * 255):
        (tmp_path / "lab" / name).write_text("x")
    Path(os.fsdecode(bytes(tmp_path / "lab") + b"/bad\xff")).write_text("x")
    found = of(tmp_path)
    assert len(found.snapshot.files) == 9
    assert "its name is no UTF-8" in left_out(tmp_path)
    archive.read(archived(tmp_path, found), found.snapshot.digest)


def test_large_data_of_a_package_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    write(tmp_path, train="import lab", lab__INIT="")
    (tmp_path / "lab/weights.bin").write_bytes(bytes(30 << 20))
    assert "lab/weights.bin" not in taken(tmp_path)
    assert "lab/weights.bin: 30 MiB of data; `files` takes it" in left_out(tmp_path)
    assert "lab/weights.bin" in taken(tmp_path, "train", "lab/*.bin")


def test_too_large_sources_are_refused_with_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, train="")
    monkeypatch.setattr(sources, "MAX_BYTES", 1 << 20)
    (tmp_path / "data.bin").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UsageError, match=r"2 files, 1\.0 MiB; at most 5,000 files and 1 MiB") as error:
        taken(tmp_path, "train", "data.bin")
    assert "'data.bin' 1.0 MiB" in error.value.message
    assert ".hpcsearchignore" in error.value.hint


def test_five_thousand_files_are_kept_and_one_more_is_refused(tmp_path: Path) -> None:
    write(tmp_path, lab__INIT="", lab__train="")
    for number in range(4998):
        (tmp_path / f"lab/d{number}.txt").write_text("")
    assert len(taken(tmp_path, "lab.train")) == 5000
    (tmp_path / "lab/one_more.txt").write_text("")
    with pytest.raises(UsageError, match=r"5,001 files, .*\n.*5,001 files are in 'lab'"):
        taken(tmp_path, "lab.train")


# -- the archive
def archived(tmp_path: Path, found: Sources) -> Path:
    path = tmp_path / "code.zip"
    path.write_bytes(found.snapshot.data)
    return path


def test_the_archive_is_the_same_bytes_for_the_same_sources(tmp_path: Path) -> None:
    one = of(write(tmp_path / "one", train="import first", first="", lab__x="")).snapshot
    two = of(write(tmp_path / "two", first="", train="import first")).snapshot
    assert (one.data, one.digest) == (two.data, two.digest)
    (tmp_path / "two/first.py").write_text("x = 1")
    assert of(tmp_path / "two").snapshot.digest != one.digest


def test_what_lives_in_installed_packages_needs_no_archive(tmp_path: Path) -> None:
    assert of(tmp_path, "json:dumps").snapshot.data == b""


def test_a_name_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    for name in ("../x", "/x", "a/../../x"):
        path = tmp_path / "code.zip"
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr(name, b"x")
        with pytest.raises(DamagedError, match="is not what was planned"):
            archive.read(path, archive.digest_of({name: b"x"}))


def test_an_archive_without_a_manifest_is_imported_from_its_top(tmp_path: Path) -> None:
    assert archive.manifest_of({"train.py": b""}) == Manifest()
    assert (
        archive.manifest_of(
            archive.read(archived(tmp_path, of(write(tmp_path, train=""))), of(tmp_path).snapshot.digest)
        )
        == Manifest()
    )


def test_a_file_called_like_the_manifest_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path, train="")
    (tmp_path / MANIFEST).write_text("evil")
    assert taken(tmp_path, "train", MANIFEST) == ("train.py",)


def test_sources_are_found_by_a_fresh_interpreter_without_being_imported(tmp_path: Path) -> None:
    write(tmp_path, train="raise SystemExit('imported')\nimport helper", helper="raise SystemExit")
    program = (
        "from pathlib import Path; from hpc_search.planning.sources import take; "
        "from hpc_search.records.search import TrialSpec; "
        f"print(*take([TrialSpec(callable='train:f')], Path({str(tmp_path)!r})).snapshot.files)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("helper.py train.py\n", "")
