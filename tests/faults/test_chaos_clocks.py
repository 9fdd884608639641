from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.campaigns import clocks, mounts


@pytest.mark.skipif(not mounts.possible(), reason="a host name of one's own needs root")
@pytest.mark.skipif(clocks.library() is None, reason="libfaketime is not installed")
def test_wrong_clocks_change_no_result(tmp_path: Path) -> None:
    args = argparse.Namespace(
        seed=3, directory=tmp_path, trials=6, workers=2, points=3, lease=1.0, claiming=""
    )

    tally = clocks.run(args)

    assert tally.problems == []
    assert tally.counts["trials"] >= 6
