"""What the kind of a mount says of its locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search import mounts

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 21 0:50 / /home rw,nosuid - nfs4 server:/home rw,vers=4.2,local_lock=none
41 21 0:51 / /scratch rw - lustre 10.0.0.1@o2ib:/lustre rw,flock,lazystatfs
42 21 0:52 / /work\\040space rw - lustre 10.0.0.1@o2ib:/two rw,localflock
43 40 0:53 / /home/fast rw - fuse.glusterfs server:/volume rw,user_id=0
44 21 0:54 / /scratch/local rw - tmpfs tmpfs rw
a line that is no mount
"""


@pytest.mark.parametrize(
    ("path", "fstype", "trusted"),
    [
        ("/etc", "ext4", True),
        ("/home/me/runs", "nfs4", False),
        ("/homework", "ext4", True),
        ("/home/fast/run", "fuse.glusterfs", False),
        ("/scratch/me", "lustre", True),
        ("/work space/me", "lustre", False),
        ("/scratch/local/x", "tmpfs", True),
    ],
)
def test_the_innermost_mount_of_a_path_decides_about_its_locks(path: str, fstype: str, trusted: bool) -> None:
    mount = mounts.mount_of(Path(path), TABLE)
    assert mount.fstype == fstype
    assert mounts.trusted(mount.fstype, mount.options) is trusted


def test_a_kind_of_mount_that_is_not_known_is_not_trusted() -> None:
    assert not mounts.trusted("", ())
    assert not mounts.trusted("beegfs", ("rw",))


def test_the_environment_outranks_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mounts.VARIABLE, "exclusive")
    assert mounts.claiming(tmp_path) == "exclusive"
    monkeypatch.setenv(mounts.VARIABLE, "lock")
    assert mounts.claiming(Path("/proc")) == "lock"
    monkeypatch.setenv(mounts.VARIABLE, "")
    assert mounts.claiming(Path("/proc")) == "exclusive"
