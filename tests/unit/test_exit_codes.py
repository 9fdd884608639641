from __future__ import annotations

import argparse
import errno
import os

import pytest

from hpc_search import cli
from hpc_search.cli import status


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EIO, 75),
        (errno.ESTALE, 75),
        (errno.EMFILE, 75),
        (errno.ENOLCK, 75),
        (errno.ENOSPC, 75),
        (errno.EACCES, 2),
        (errno.EROFS, 2),
        (errno.ENOTDIR, 2),
    ],
)
def test_what_passes_by_itself_is_temporary_and_what_a_person_must_change_is_not(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number), "/there/plan.json")

    monkeypatch.setattr(status, "run", refused)
    assert cli.main(["status", "x"]) == code
    assert f"/there/plan.json: {os.strerror(number)}" in capsys.readouterr().err
