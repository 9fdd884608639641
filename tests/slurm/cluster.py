"""The test cluster as tests see it: commands, an ordinary user, and an interpreter that this user can run."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import filelock

from tests.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
CLUSTER: Final = ROOT / "tools" / "slurm-cluster"
PROFILE: Final = ROOT / "slurm" / "profiles" / "test-cluster.yaml"
#: States of sacct from which a job does not come back by itself.
FINAL: Final = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "DEADLINE"}
)
_SYSTEM_PYTHON: Final = "/usr/bin/python3"
#: Outside of the checkout and of root's home: neither may be readable for the ordinary user.
_READABLE: Final = Path("/var/tmp")
_KEPT_COPIES: Final = 3

Output = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running test cluster."""

    directory: Path
    user: str
    profile: Path = PROFILE

    def control(self, *arguments: str, timeout: float = 120) -> Output:
        """Run ``tools/slurm-cluster`` with *arguments*, such as ``kill-node``, ``node1``."""
        command = [str(CLUSTER), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def run(
        self,
        *argv: str | Path,
        cwd: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Output:
        """Run *argv* as the user of the tests (root) and return what it printed; see ``returncode``."""
        return subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            timeout=timeout,
        )

    def run_as_user(
        self,
        *argv: str | Path,
        cwd: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Output:
        """Run *argv* as the ordinary user, in that user's home and with a small environment."""
        entry = pwd.getpwnam(self.user)
        base = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": entry.pw_dir,
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
            "SLURM_CONF": os.environ["SLURM_CONF"],
        }
        return subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=cwd or entry.pw_dir,
            env={**base, **(environment or {})},
            timeout=timeout,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            umask=0o022,
        )

    def states(self, job: str) -> list[str]:
        """Return the last state of *job*, or of each task of an array, as sacct tells."""
        command = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", job)
        return [line.split()[0] for line in self.run(*command).stdout.splitlines() if line.strip()]

    def wait(self, job: str, tasks: int = 1, timeout: float = 60) -> list[str]:
        """Wait until all *tasks* of *job* are over, and return their states."""

        def over() -> list[str]:
            states = self.states(job)
            return states if len(states) == tasks and set(states) <= FINAL else []

        return wait_until(over, timeout, on_timeout=lambda: self.picture(job))

    def picture(self, job: str = "") -> str:
        """Return what SLURM says now, to show where a test fails."""
        commands = (["squeue", "-r"], ["sinfo", "-N"], ["sacct", "-X", *(["-j", job] if job else [])])
        return "\n".join(f"$ {' '.join(command)}\n{self.run(*command).stdout}" for command in commands)

    @contextmanager
    def stopped_controller(self) -> Iterator[None]:
        """Stop slurmctld as a hung disk does: it takes what is sent and answers nobody."""
        pid = int((self.directory / "run" / "slurmctld.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def user_directory(self) -> Iterator[Path]:
        """Give a directory that belongs to the ordinary user, on the file system of all nodes."""
        entry = pwd.getpwnam(self.user)
        directory = Path(tempfile.mkdtemp(prefix="hpc_search-user-", dir=_READABLE))
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def why_not() -> str:
    """Return why the cluster cannot be started here, empty where it can."""
    if os.getuid() != 0:
        return "not root: tools/slurm-cluster needs root"
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        return "no slurmctld here, and no apt-get to install it"
    return ""


def is_up() -> bool:
    """Tell whether the whole cluster runs."""
    return subprocess.run([CLUSTER, "status"], check=False, capture_output=True).returncode == 0


# -- an environment for the ordinary user


def build_user_python() -> Path:
    """Return an interpreter with the project and its core dependencies that every user can run.

    It is the system's python3 with two layers below ``/var/tmp``: the dependencies, made once, and a
    copy of the sources, made once for each state of them. Other tests may build at the same time.

    Raises:
        LookupError: The system has no python3 that is recent enough; the message says so.
    """
    version = _system_version()
    with filelock.FileLock(_READABLE / "hpc_search-tests.lock", timeout=600):
        dependencies = _READABLE / f"hpc_search-tests-{_dependencies_digest(version)}"
        if not (dependencies / "complete").exists():
            _build_dependencies(dependencies)
        environment = dependencies / f"env-{_sources_digest()}"
        if not (environment / "complete").exists():
            _drop_old_copies(dependencies)
            _build_copy(dependencies, environment)
    return environment / "bin" / "python"


def _system_version() -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        asked = subprocess.run([_SYSTEM_PYTHON, "-c", code], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError(f"no {_SYSTEM_PYTHON} here") from error
    version = asked.stdout.strip()
    if tuple(map(int, version.split("."))) < (3, 11):
        raise LookupError(f"{_SYSTEM_PYTHON} is {version}, older than 3.11")
    return version


def _core_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    dependencies: list[str] = project["dependencies"]
    return dependencies


def _dependencies_digest(version: str) -> str:
    pins = (ROOT / "tools" / "constraints.txt").read_bytes()
    text = "\n".join([version, *_core_dependencies()]).encode()
    return hashlib.blake2b(text + pins, digest_size=6).hexdigest()


def _sources() -> list[Path]:
    package = ROOT / "hpc_search"
    return sorted(path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")


def _sources_digest() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in _sources():
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_venv(directory: Path) -> Path:
    """Make an environment without pip (the system's may lack ensurepip); return its site-packages."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    command: list[str | Path] = [_SYSTEM_PYTHON, "-m", "venv", "--without-pip", directory]
    subprocess.run(command, check=True, capture_output=True, umask=0o022)
    (found,) = (directory / "lib").glob("python3*/site-packages")
    return found


def _build_dependencies(directory: Path) -> None:
    _make_venv(directory)
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install", "-q"]
    quiet = ["--disable-pip-version-check", "--no-input", "-c", str(ROOT / "tools" / "constraints.txt")]
    extra = os.environ.get("HPC_SEARCH_PIP_ARGS", "").split()
    command = [*pip, *quiet, *extra, *_core_dependencies()]
    done = subprocess.run(command, check=False, capture_output=True, text=True, umask=0o022)
    if done.returncode:
        raise RuntimeError(f"pip failed to make {directory}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    (directory / "complete").touch()


def _build_copy(dependencies: Path, environment: Path) -> None:
    site = _make_venv(environment)
    (below,) = (dependencies / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(f"{below}\n", "utf-8")
    for path in _sources():
        copy = site / path.relative_to(ROOT)
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # The ordinary user cannot write bytecode there, and would compile everything at every start.
    python = environment / "bin" / "python"
    compile_all: list[str | Path] = [python, "-m", "compileall", "-q", site / "hpc_search"]
    subprocess.run(compile_all, check=True, capture_output=True, umask=0o022)
    for path in [site, *site.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (environment / "complete").touch()


def _drop_old_copies(dependencies: Path) -> None:
    copies = sorted(dependencies.glob("env-*"), key=lambda path: path.stat().st_mtime)
    for copy in copies[: -_KEPT_COPIES + 1]:
        with suppress(OSError):
            shutil.rmtree(copy)
