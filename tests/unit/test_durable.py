"""Durable bytes: whole or absent, published once, nothing left behind by a failure."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hpc_search import durable


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_written_file_is_whole_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_write_file_never_writes_over_something(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_write_file_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        durable.write_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


def test_write_all_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    durable.write_file(tmp_path / "a", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_write_of_nothing_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(OSError) as caught:
        durable.write_file(tmp_path / "a", b"x")
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("action", [durable.write_file, durable.replace, durable.publish])
def test_a_failed_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, action: object
) -> None:
    def fail(*_: object) -> int:
        raise failing(errno.EDQUOT)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="quota"):
        action(tmp_path / "a", b"content")  # type: ignore[operator]
    monkeypatch.undo()
    assert names(tmp_path) == []


def test_replace_shows_the_old_or_the_new_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    durable.replace(path, b"one")
    durable.replace(path, b"two", sync=False)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a"]


def test_a_failed_replace_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    durable.replace(path, b"one")

    def fail(*_: object) -> None:
        raise failing(errno.ENOSPC)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        durable.replace(path, b"two")
    monkeypatch.undo()
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_a_name_is_published_once(tmp_path: Path) -> None:
    assert durable.publish(tmp_path / "a", b"first")
    assert not durable.publish(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_lost_reply_of_the_server_is_a_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "the server did it and the answer was lost")

    monkeypatch.setattr(os, "link", link)
    assert durable.publish(tmp_path / "a", b"first")


def no_links(*_: object) -> None:
    raise failing(errno.EPERM)


def test_without_hard_links_a_name_is_published_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    assert durable.publish(tmp_path / "a", b"first")
    assert not durable.publish(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert not [name for name in names(tmp_path) if name.startswith(durable.TEMPORARY)]


def test_without_hard_links_a_publisher_that_was_killed_does_not_keep_the_name_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    real = durable.replace

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(durable, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        durable.publish(tmp_path / "a", b"first")
    monkeypatch.setattr(durable, "replace", real)
    durable.publish(tmp_path / "a", b"second")
    # Whoever comes next completes what the first one decided: one content for all.
    assert (tmp_path / "a").read_bytes() == b"first"


def test_without_hard_links_an_existing_name_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "link", no_links)
    assert not durable.publish(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_directory_is_published_over_nothing_or_an_empty_one(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "empty").mkdir()
    assert durable.publish_dir(tmp_path / "one", tmp_path / "new")
    assert durable.publish_dir(tmp_path / "two", tmp_path / "empty")
    assert not durable.publish_dir(tmp_path / "three", tmp_path / "new")
    assert (tmp_path / "new" / "file").read_text() == "one"


def test_a_directory_is_not_published_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("here")
    assert not durable.publish_dir(tmp_path / "dir", tmp_path / "file")


def test_a_directory_that_is_taken_away_is_gone_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    durable.take_away(tmp_path / "d")
    assert names(tmp_path) == []
    durable.take_away(tmp_path / "d")


def test_a_file_system_that_cannot_fsync_directories_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise failing(errno.EINVAL)

    monkeypatch.setattr(os, "fsync", fail)
    durable.fsync_dir(tmp_path)


def test_a_directory_that_fails_to_reach_the_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise failing(errno.EIO)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.fsync_dir(tmp_path)


def test_a_stale_handle_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"content")
    stale = [True, True]
    real = Path.open

    def opened(self: Path, *args: Any, **options: Any) -> Any:
        if stale:
            stale.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", opened)
    assert durable.read_bytes(path) == b"content"
    stale.extend([True] * 1000)
    with pytest.raises(FileNotFoundError):
        durable.read_bytes(path)
