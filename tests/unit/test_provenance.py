"""Where the code came from: git's words without secrets, packages, and what differs on a node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpc_search.planning import git, packages, provenance, sources
from hpc_search.planning.packages import differences
from hpc_search.planning.provenance import without_secrets
from hpc_search.records.provenance import Repository
from hpc_search.records.search import TrialSpec
from tests.unit.test_planning_code import write


def call(folder: Path, *arguments: str) -> None:
    argv = [
        "git",
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@y",
        "-c",
        "protocol.file.allow=always",
        *arguments,
    ]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)


def repository(folder: Path, **files: str) -> Path:
    write(folder, **files)
    call(folder, "init", "-q", "-b", "trunk")
    call(folder, "add", "-A")
    call(folder, "commit", "-q", "-m", "first")
    return folder


def origin(base: Path) -> tuple[tuple[Repository, ...], bytes]:
    taken = sources.take([TrialSpec(callable="train:train")], base)
    return provenance.repositories(taken.snapshot, taken.roots)


def test_a_clean_work_tree_is_its_commit_and_branch(tmp_path: Path) -> None:
    base = repository(tmp_path, train="")
    call(base, "remote", "add", "origin", "https://me:password@example.org/x.git")
    (one,), diff = origin(base)
    assert (len(one.commit), one.branch, one.remote) == (40, "trunk", "https://example.org/x.git")
    assert (one.holds, one.dirty, diff) == (("train.py",), False, b"")


def test_changes_are_a_diff_and_untracked_files_are_named(tmp_path: Path) -> None:
    base = repository(tmp_path, train="x = 1\n")
    write(base, train="x = 2\n", new="y = 1")
    (base / ".gitignore").write_text("quiet.txt\n")
    (base / "quiet.txt").write_text("")
    (base / "binary").write_bytes(bytes(range(256)))
    call(base, "add", "binary")
    (one,), diff = origin(base)
    assert one.dirty
    assert one.untracked == (".gitignore", "new.py")
    assert b"-x = 1\n+x = 2\n" in diff
    assert b"Binary files /dev/null and b/binary differ" in diff
    assert b"y = 1" not in diff


@pytest.mark.parametrize(
    "line",
    [
        "AWS = 'AKIAIOSFODNN7EXAMPLE'", "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "hf_abcdefghijklmnopqrstuvwx", "OPENAI_API_KEY_PROD=abcdefghijk",
        "key = sk-proj-abcdefghijklmnop", "PASSWORD=hunter2hunter2", "token: 'x'", 'client_secret = "abc"',
        "url = 'postgres://me:secret@host/db'", "API_KEY = 'zzz'",
        "x" * 5000,
    ],
)  # fmt: skip
def test_lines_like_keys_are_dropped_and_counted(line: str) -> None:
    diff = f"diff --git a/x.py b/x.py\n+before\n+{line}\n+after\n".encode()
    kept, dropped = without_secrets(diff)
    assert (kept, dropped) == (b"diff --git a/x.py b/x.py\n+before\n+after\n", 1)


@pytest.mark.parametrize(
    "line",
    ["tokens = tokenizer(text)", "for token in tokens:", "if token == 'x':", "tokenizer: Tokenizer",
     "secretary = 1", "token_ids = batch['input_ids']", "def password_strength(text): return 0"],
)  # fmt: skip
def test_code_about_tokens_stays(line: str) -> None:
    diff = f"diff --git a/x.py b/x.py\n+{line}\n".encode()
    assert without_secrets(diff) == (diff, 0)


def test_a_private_key_goes_whole_and_so_do_files_called_like_secrets() -> None:
    key = "+-----BEGIN PRIVATE KEY-----\n+MIIE\n+abcd\n+-----END PRIVATE KEY-----\n"
    head = "diff --git a/x.py b/x.py\n"
    diff = f"{head}{key}+after\ndiff --git a/.env b/.env\n+HOST=plain\ndiff --git a/y b/y\n+y\n".encode()
    kept, dropped = without_secrets(diff)
    assert (
        kept
        == (
            f"{head}+after\ndiff --git a/.env b/.env\n# left out: its name says that it holds a secret\n"
            "diff --git a/y b/y\n+y\n"
        ).encode()
    )
    assert dropped == 4


def test_a_large_diff_is_cut_with_words(tmp_path: Path) -> None:
    base = repository(tmp_path, train="")
    write(base, train="x = 1\n" * 300_000)
    (_,), diff = origin(base)
    assert len(diff) < provenance.DIFF_BYTES + 200
    assert diff.endswith(b"# the rest was left out: more than 1 MiB\n")


def test_git_missing_or_broken_or_slow_fails_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = repository(tmp_path, train="import lab", lab__INIT="")
    (base / ".git/HEAD").write_text("garbage")
    (one,), _ = origin(base)
    assert one.note.startswith("git did not answer")
    (base / ".git/HEAD").write_text("ref: refs/heads/trunk\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    (one,), _ = origin(base)
    assert one.note.startswith("git did not answer")
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setattr(git, "LIMIT", 0.2)
    monkeypatch.setattr(git.ask, "__kwdefaults__", {"seconds": 0.2, "most": 1 << 20})
    (one,), _ = origin(base)
    assert one.note.startswith("git did not answer")


def test_no_commit_yet_a_bare_repository_and_a_submodule(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", train="")
    call(empty, "init", "-q")
    (one,), _ = origin(empty)
    assert (one.commit, one.untracked) == ("", ("train.py",))
    bare = write(tmp_path / "bare", train="")
    call(bare, "init", "-q", "--bare", ".git")
    (one,), _ = origin(bare)
    assert one.note
    inner = repository(tmp_path / "inner", lab__INIT="")
    outer = repository(tmp_path / "outer", train="import sub.lab")
    call(outer, "submodule", "add", "-q", str(inner), "sub")
    assert "sub/lab/__init__.py" in sources.take([TrialSpec(callable="train:train")], outer).snapshot.files
    (one,), _ = origin(outer)
    assert one.dirty


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://me:password@example.org/x.git", "https://example.org/x.git"),
        ("https://token@example.org/x.git?access_token=1", "https://example.org/x.git"),
        ("git@example.org:lab/x.git", "git@example.org:lab/x.git"),
        ("me:password@example.org:lab/x.git", "example.org:lab/x.git"),
        ("/srv/me/x.git", "a directory of this machine"),
        ("file:///srv/me/x.git", "a directory of this machine"),
        ("../x", "a directory of this machine"),
        ("", ""),
    ],
)
def test_a_remote_names_no_person_and_no_place_here(url: str, kept: str) -> None:
    assert git.without_credentials(url) == kept


def test_a_diff_without_end_is_cut_and_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "git"
    endless.write_text("#!/bin/sh\nexec /usr/bin/yes\n")
    endless.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.ask(tmp_path, "diff", seconds=20, most=1000) == b"y\n" * 500


def test_a_detached_head_has_no_branch_and_git_variables_of_ours_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = repository(tmp_path, train="")
    call(base, "checkout", "-q", "--detach")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (one,), _ = origin(base)
    assert (len(one.commit), one.branch) == (40, "")


# -- packages
def test_versions_are_read_from_the_names_of_installations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("torch-2.13.0+cpu.dist-info", "scikit_learn-1.5.dist-info", "PyYAML-6.0-py3.11.egg-info")
    for name in (*names, "no_version.egg-info", "torch", "numpy.libs", "a-1.dist-info", "a-2.dist-info"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path), "/nowhere"])
    assert packages.installed() == {"torch": "2.13.0+cpu", "scikit-learn": "1.5", "pyyaml": "6.0", "a": ""}


def test_packages_are_found_by_what_they_install() -> None:
    found = packages.packages(["yaml", "sklearn", "dateutil", "nowhere", "msgspec"])
    assert {"PyYAML", "scikit-learn", "python-dateutil", "msgspec", "numpy"} <= found.keys()
    assert "nowhere" not in found


@pytest.mark.parametrize(
    ("here", "then", "refused", "told"),
    [
        ("2.1.0", "2.1.0", 0, 0),
        ("1.26.4", "2.1.0", 1, 0),
        ("2.13.0+cu128", "2.13.0+cpu", 0, 1),
        ("2.13.0", "2.13.0+cpu", 0, 1),
        ("2.12.0+cu128", "2.13.0+cpu", 1, 0),
        ("", "2.1.0", 0, 0),
    ],
)
def test_builds_of_one_version_are_told_other_versions_refused(
    monkeypatch: pytest.MonkeyPatch, here: str, then: str, refused: int, told: int
) -> None:
    monkeypatch.setattr(packages, "installed", lambda: {"torch": here} if here else {})
    found = differences({"torch": then}, "")
    assert (len(found.refused), len(found.told)) == (refused, told)
    assert all(words == f"torch {here} here, {then} when planned" for words in (*found.refused, *found.told))


@pytest.mark.parametrize(("then", "refused"), [("", 0), ("3.1.4", 1), (None, 0)])
def test_the_minor_version_of_python_counts(then: str | None, refused: int) -> None:
    import platform

    mine = platform.python_version()
    found = differences({}, ".".join([*mine.split(".")[:2], "99"]) if then is None else then)
    assert len(found.refused) == refused
