"""Workers of this machine: started, counted, told to end, started again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_search.config import slices
from hpc_search.config.profile import Profile
from hpc_search.config.slices import Pack, Slice
from hpc_search.errors import UsageError
from hpc_search.launchers import processes
from hpc_search.launchers.base import ActiveJobs, Request
from hpc_search.launchers.local import RESTARTS, LocalLauncher, cores, gpus, seat
from hpc_search.site import environment
from tests.gpus import fake_nvml, h200, instance
from tests.waiting import wait_until

#: A stand-in for the worker: the first argument says what it does, the run directory is its second.
WORKER = """
import os, signal, sys, time
todo, run, seat = sys.argv[1], sys.argv[2], sys.argv[-1]
with open(os.path.join(run, "starts"), "a") as file:
    file.write(seat + "\\n")
if todo == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if todo == "fail":
    sys.exit(1)
if todo == "stay":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", os.getsid(0) == os.getpid(), flush=True)
    time.sleep(60)
if todo == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    launcher = LocalLauncher(pause=lambda _: None)
    yield launcher
    for one in launcher._seats.values():
        one.process.kill()
        one.process.wait()


def request(run: Path, todo: str, tasks: int = 2, first_seat: int = 0) -> Request:
    (run / "submitit").mkdir(exist_ok=True)
    command = (sys.executable, "-c", WORKER, todo, str(run))
    token = f"test-{run.name[-8:]}-0001"
    return Request(
        run=str(run), token=token, tasks=tasks, profile=Profile(), first_seat=first_seat, command=command
    )


def starts(run: Path) -> list[str]:
    path = run / "starts"
    return path.read_text().split() if path.exists() else []


def logs(run: Path, word: str) -> int:
    return sum(word in path.read_text() for path in (run / "submitit").glob("local-*.log"))


def test_workers_run_in_sessions_of_their_own_and_are_known_by_their_token(
    tmp_path: Path, launcher: LocalLauncher
) -> None:
    asked = request(tmp_path, "stay")

    submitted = launcher.submit(asked)

    wait_until(lambda: logs(tmp_path, "ready True") == 2)
    assert launcher.active([asked.token, "other"]) == {asked.token: ActiveJobs(running=2)}
    found = launcher.find(asked.token)
    assert found is not None
    assert found.adopted
    assert found.jobs == submitted.jobs
    assert found.jobs[0].host == processes.hostname()
    assert found.jobs[0].start_time > 0
    assert launcher.cancel([asked.token]) == 2
    wait_until(lambda: launcher.active([asked.token]) == {})
    assert launcher.find(asked.token) is None


def test_output_is_private(tmp_path: Path, launcher: LocalLauncher) -> None:
    launcher.submit(request(tmp_path, "none", tasks=1))

    assert (tmp_path / "submitit" / "local-0.log").stat().st_mode & 0o777 == 0o600


def test_worker_that_was_killed_is_started_again_while_work_is_left(
    tmp_path: Path, launcher: LocalLauncher
) -> None:
    asked = request(tmp_path, "die", tasks=1)
    launcher.submit(asked)
    left = [9, 8, 7, 0]

    launcher.wait(lambda: [asked.token], lambda: None, lambda: left.pop(0) if len(left) > 1 else left[0])

    assert starts(tmp_path) == ["local:0"] * 4


def test_restarts_are_bounded_while_no_trial_ends(
    tmp_path: Path, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, "die", tasks=1)
    launcher.submit(asked)
    clock = iter(range(0, 10**9, 100))
    monkeypatch.setattr("hpc_search.launchers.local.time.monotonic", lambda: next(clock))

    waited = launcher.wait(lambda: [asked.token], lambda: None, lambda: 5)

    assert starts(tmp_path) == ["local:0"] * (1 + RESTARTS)
    assert waited.lost == ("local:0: signal 9",)


def test_worker_that_fails_by_itself_is_not_started_again(tmp_path: Path, launcher: LocalLauncher) -> None:
    asked = request(tmp_path, "fail")
    launcher.submit(asked)

    waited = launcher.wait(lambda: [asked.token], lambda: None, lambda: 5)

    assert sorted(starts(tmp_path)) == ["local:0", "local:1"]
    assert waited.lost == ("local:0: exit status 1", "local:1: exit status 1")


def test_wait_ends_with_the_workers_and_ticks(tmp_path: Path, launcher: LocalLauncher) -> None:
    asked = request(tmp_path, "none")
    launcher.submit(asked)
    ticks: list[int] = []

    waited = launcher.wait(lambda: [asked.token], lambda: ticks.append(1), lambda: 0)

    assert waited.lost == ()
    assert len(ticks) >= 2


def test_first_signal_asks_the_workers_to_end(tmp_path: Path, launcher: LocalLauncher) -> None:
    asked = request(tmp_path, "stay")
    launcher.submit(asked)
    wait_until(lambda: logs(tmp_path, "ready") == 2)
    before = signal.getsignal(signal.SIGINT)

    waited = launcher.wait(
        lambda: [asked.token], _once(lambda: os.kill(os.getpid(), signal.SIGINT)), lambda: 5
    )

    assert waited.signal == signal.SIGINT
    assert waited.lost == ()
    assert len(starts(tmp_path)) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_second_signal_kills_the_workers_for_good(tmp_path: Path, launcher: LocalLauncher) -> None:
    asked = request(tmp_path, "stubborn")
    launcher.submit(asked)
    wait_until(lambda: logs(tmp_path, "ready") == 2)

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    waited = launcher.wait(lambda: [asked.token], _once(twice), lambda: 5)

    assert waited.lost == ("local:0: signal 9", "local:1: signal 9")
    assert len(starts(tmp_path)) == 2


def test_no_more_workers_than_cores_or_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc_search.launchers.local.gpus", lambda _environ: [])
    launcher = LocalLauncher()

    assert launcher.workers(Profile(), threads=1, pending=10**6) == cores()
    assert launcher.workers(Profile(), threads=cores(), pending=10**6) == 1
    assert launcher.workers(Profile(), threads=1, pending=1) == 1


def test_gpus_are_those_that_are_visible(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()

    assert gpus({}, tmp_path) == ["0", "1"]
    assert gpus({"CUDA_VISIBLE_DEVICES": "3,MIG-abc"}, tmp_path) == ["3", "MIG-abc"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []


def test_seats_go_on_from_the_first(tmp_path: Path) -> None:
    asked = request(tmp_path, "none", first_seat=4)

    assert [seat(asked, index) for index in range(2)] == ["local:4", "local:5"]
    assert "--seat local:5" in LocalLauncher().script(asked)


def test_a_checkout_is_put_on_the_path_of_the_workers_and_an_installation_is_not() -> None:
    installed = environment.with_package({}, Path("/venv/lib/site-packages/hpc_search"))
    checkout = environment.with_package({"PYTHONPATH": "/mine"}, Path("/src/hpc_search"))

    assert installed == {}
    assert checkout == {"PYTHONPATH": "/mine:/src"}


def _once(action: Callable[[], None]) -> Callable[[], None]:
    done: list[bool] = []

    def tick() -> None:
        if not done:
            done.append(True)
            action()

    return tick


def test_gpus_in_mig_mode_are_their_instances_by_uuid(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    fake = fake_nvml(tmp_path / "gpus.json", h200(), h200(1, instances=[instance(0), instance(1)]))

    assert gpus({**os.environ, **fake}, tmp_path) == ["GPU-00000000", "MIG-00000000", "MIG-00000001"]


def test_one_worker_a_gpu_or_so_many_as_are_packed_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    launcher = LocalLauncher()
    packed = Profile(slice=Slice(kind="packed", request=slices.Request(gres="gpu:1"), pack=Pack(workers=3)))
    no_gpu = Profile(slice=Slice(kind="cpu", pack=Pack(workers=2)))

    assert launcher.workers(Profile(), threads=1, pending=10**6) == 2
    assert launcher.workers(Profile(), threads=1, pending=10**6, asked=9) == 2
    assert launcher.workers(Profile(), threads=1, pending=10**6, asked=1) == 1
    assert launcher.workers(packed, threads=1, pending=10**6, asked=9) == 6
    assert launcher.workers(no_gpu, threads=1, pending=10**6) == cores()

    pairs = Profile(slice=Slice(kind="whole", request=slices.Request(gres="gpu:2")))
    assert launcher.workers(pairs, threads=1, pending=10**6, asked=9) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,0")
    assert launcher.workers(Profile(), threads=1, pending=10**6, asked=9) == 1
    with pytest.raises(UsageError, match="asks for gpu:2; GPUs visible here: 1"):
        launcher.workers(pairs, threads=1, pending=10**6)


def test_a_new_worker_gets_the_gpu_that_no_other_one_has(
    tmp_path: Path, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Names of this test alone: workers of other tests are workers of this user, too.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{tmp_path.name}-a,{tmp_path.name}-b")
    asked = request(tmp_path, "stay")
    launcher.submit(asked)
    wait_until(lambda: logs(tmp_path, "ready") == 2)
    first = launcher._seats[f"{asked.token} local:0"].process
    first.kill()
    first.wait()

    launcher.submit(request(tmp_path, "stay", tasks=1, first_seat=7))

    def mine() -> list[str]:
        return sorted(name for name in processes.devices() if name.startswith(tmp_path.name))

    assert mine() == [f"{tmp_path.name}-a", f"{tmp_path.name}-b"]

    pairs = Profile(slice=Slice(kind="whole", request=slices.Request(gres="gpu:2")))
    launcher.submit(replace(request(tmp_path, "stay", tasks=1, first_seat=8), profile=pairs))

    assert f"{tmp_path.name}-a,{tmp_path.name}-b" in mine()
