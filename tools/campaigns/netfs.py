"""Two clients of a network file system, workers of both on one run; and locks that are made to lie."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from hpc_search.errors import EXIT_DONE, EXIT_TEMPORARY
from tools.campaigns import checker
from tools.campaigns.common import (
    Rules,
    Site,
    Tally,
    Witness,
    Workload,
    all_ended,
    end_session,
    reference,
    verdict,
)

HELP = "workers on two clients of a network file system, cached and coherent; and locks that are made to lie"
_NETFS: Final = Path(__file__).resolve().parents[1] / "netfs"
#: Its own directory and port: somebody may use tools/netfs by hand at the same time.
_DIRECTORY: Final = Path(os.environ.get("HPC_SEARCH_NETFS_DIR", "/tmp/hpc_search-netfs-campaign"))
_PORT: Final = os.environ.get("HPC_NETFS_PORT", "24947")
_CLIENTS: Final = "ab"
#: Another host, as far as a worker can tell: its name, its processes, and its client at the path of all.
_HOST: Final = ("unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c")
_BECOME: Final = 'hostname "$0" && if [ -n "$1" ]; then mount --bind "$1" "$2"; fi && shift 2 && exec "$@"'
#: flock that always says yes and does nothing.
_STRACE: Final = ("strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=flock,pwrite64")
_LIE: Final = ("-e", "inject=flock:retval=0")
#: Seconds: between two looks, a whole run, and until one client surely sees what the other wrote.
_LOOK, _PATIENCE, _SEEN = 0.5, 1500.0, 2.5


class Setting(NamedTuple):
    """The mode of tools/netfs ("" for a local directory whose locks lie), and the way of claiming."""

    mode: str
    claiming: str


SETTINGS: Final[dict[str, Setting]] = {
    "cached-exclusive": Setting("cached", "exclusive"),
    "coherent-exclusive": Setting("coherent", "exclusive"),
    "coherent-lock": Setting("coherent", "lock"),
    "lying-lock": Setting("", "lock"),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the campaign."""
    parser.add_argument("--trials", type=int, default=300, help="trials of each run")
    parser.add_argument("--workers", type=int, default=8, help="workers at a time, half on each client")
    parser.add_argument("--kills", type=int, default=10, help="workers killed in each run")
    parser.add_argument(
        "--write-delay", type=int, default=20, help="ms that the index is written late where locks lie"
    )
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), help="only these")


def run(args: argparse.Namespace) -> Tally:
    """Work one run to its end in each setting, and hold it against the undisturbed run."""
    tally = Tally()
    if os.getuid() != 0:
        tally.problems.append("nothing was done: not root, and mounting needs root")
        return tally
    draw = random.Random(args.seed)
    for name in args.settings or SETTINGS:
        setting = SETTINGS[name]
        with mounted(setting.mode, Path(args.directory) / name) as place:
            workload = Workload(
                points=args.trials, seeds=1, pause=0.01, heartbeat=0.5, lease=6.0, claiming=setting.claiming
            )
            crowd = _Crowd(Site(place / "site", workload), setting, draw, args)
            problems = [*crowd.work(), *_judge(crowd, workload)]
            tally.counts.update({f"{name}: {what}": count for what, count in crowd.counts.items()})
            tally.problems += [f"{name}: {problem}" for problem in problems]
            if not problems:
                shutil.rmtree(place / "site")
    return tally


@contextmanager
def mounted(mode: str, local: Path) -> Iterator[Path]:
    """Give a directory on the mounted network file system, or *local* where there is no *mode*."""
    if not mode:
        local.mkdir(parents=True, exist_ok=True)
        yield local
        return
    environment = {
        **os.environ,
        "HPC_SEARCH_NETFS_DIR": str(_DIRECTORY),
        "HPC_NETFS_PORT": _PORT,
        "HPC_NETFS_MODE": mode,
    }

    def netfs(*verb: str) -> None:
        subprocess.run([_NETFS, *verb], check=True, env=environment, stdout=subprocess.DEVNULL)

    netfs("down", "--purge")
    netfs("up")
    try:
        yield _DIRECTORY / "shared"
    finally:
        netfs("down", "--purge")


class _Crowd:
    """Workers that come and go on one run, in turn on the one and on the other client."""

    def __init__(self, site: Site, setting: Setting, draw: random.Random, args: argparse.Namespace) -> None:
        self.site = site
        self.setting = setting
        self.counts: Counter[str] = Counter()
        self._draw = draw
        self._workers: int = args.workers
        self._kills: int = args.kills
        # Without a delay, two are hardly ever in the same few microseconds.
        delay = f"inject=pwrite64:delay_enter={args.write_delay}ms"
        self._lies = (*_STRACE, *_LIE, *(("-e", delay) if args.write_delay else ()))
        self._started = 0
        self._witness = Witness(site.layout)

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        name = f"host{self._started}"
        if not self.setting.mode:
            return self.site.start(prefix=(*_HOST, _BECOME, name, "", "", *self._lies))
        client = _DIRECTORY / _client(name)
        return self.site.start(prefix=(*_HOST, _BECOME, name, str(client), str(_DIRECTORY / "shared")))

    def work(self) -> list[str]:
        """Work to the end; return what workers did that they must not."""
        began = time.monotonic()
        problems: list[str] = []
        with all_ended([self._start() for _ in range(self._workers)]) as crowd:
            while not self.site.finished() and not problems:
                time.sleep(_LOOK)
                self._witness.sample()
                if time.monotonic() - began > _PATIENCE:
                    problems.append(f"not finished in {_PATIENCE:g} s: {self.site.said()}")
                problems += self._replace(crowd)
                self._maybe_kill(crowd)
            problems += _leave(crowd)
        self.counts["seconds"] = round(time.monotonic() - began)
        self.counts["workers"] = self._started
        time.sleep(_SEEN)
        problem = self.site.work_to_the_end() if not problems else ""
        return [*problems, *([problem] if problem else []), *self._witness.problems]

    def _replace(self, crowd: list[subprocess.Popen[bytes]]) -> list[str]:
        """Start another worker for each that left while trials are left; return those that failed."""
        gone = [worker for worker in crowd if worker.poll() is not None]
        crowd[:] = [worker for worker in crowd if worker.returncode is None]
        crowd += [self._start() for _ in gone]
        failed = [w.returncode for w in gone if w.returncode not in (EXIT_DONE, EXIT_TEMPORARY, -9, 137)]
        self.counts["workers that gave up for a while"] += sum(w.returncode == EXIT_TEMPORARY for w in gone)
        return [f"a worker ended with status {code}: {self.site.said()}" for code in failed]

    def _maybe_kill(self, crowd: list[subprocess.Popen[bytes]]) -> None:
        if self.counts["kills"] < self._kills and self._draw.random() < 0.3:
            end_session(self._draw.choice(crowd))
            self.counts["kills"] += 1


def _leave(crowd: list[subprocess.Popen[bytes]]) -> list[str]:
    problems = []
    for worker in crowd:
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            problems.append("a worker did not leave though all trials had ended")
    return problems


def _client(node: str) -> str:
    """Return the client that worker number N, on "hostN", works on; the last ones work on a."""
    number = node.removeprefix("host")
    return _CLIENTS[int(number) % 2] if number.isdecimal() else _CLIENTS[0]


def _judge(crowd: _Crowd, workload: Workload) -> list[str]:
    facts = checker.facts_of(crowd.site.layout)
    claims = Counter((claim.trial, claim.attempt) for claim in facts.claims)
    crowd.counts["trials"] = workload.trials
    crowd.counts["attempts"] = checker.attempts(facts)
    crowd.counts["attempts claimed twice"] = sum(count > 1 for count in claims.values())
    crowd.counts["results superseded"] = checker.duplicates(facts)
    if crowd.setting.mode:
        done = (end for _, _, end in facts.ends if end.state == "done")
        crowd.counts.update(Counter(f"trials done on client {_client(end.node)}" for end in done))
    crowd.counts["trials accepted twice"] = sum(len(ends) > 1 for ends in facts.accepted.values())
    # Where locks lie, a trial may be claimed at any time, and two may accept their equal results in the same
    # moment. That one of them changes afterwards is what the witness looks for.
    lie = not crowd.setting.mode
    rules = Rules(stamps=not lie, locks_lie=lie, temporaries=crowd.counts["kills"])
    return verdict(crowd.site.run, reference(workload), rules)
