"""Real workers of this machine on GPUs of ours: one a device, packed, out of memory by others; torchrun."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpc_search.collect import collect
from hpc_search.ledger import mismatches
from hpc_search.records import journal as lines
from tests.faults.site import TIMEOUT, Site, gone
from tests.gpus import GIB, fake_control, fake_nvml, h200, instance
from tests.waiting import wait_until

PROGRAM = """
echo "$CUDA_VISIBLE_DEVICES|$HPC_SEARCH_MEMORY_FRACTION|$1|$CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" >>"$2"
sleep 0.3
echo '{"v": 1}' >"$HPC_SEARCH_REPORT"
"""
SEARCH = """
name: slices
command: [sh, program.sh, "{device}", %s, "{x}"]
metric: {name: v, goal: max}
space: {x: [%s]}
strategy: grid
heartbeat: 1
lease: 20
"""


def site(root: Path, trials: int, program: str = PROGRAM) -> Site:
    root.mkdir(exist_ok=True)
    (root / "program.sh").write_text(program)
    return Site(root, SEARCH % (root / "seen", ", ".join(map(str, range(trials)))))


def submit(one: Site, environ: dict[str, str], profile: str, *more: str) -> str:
    path = one.root / "profile.yaml"
    path.write_text(profile)
    command = ["submit", str(one.run.path), "--launcher=local", f"--profile={path}", *more]
    done = subprocess.run(
        [sys.executable, "-m", "hpc_search", *command],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + said(one)
    return said(one)


def said(one: Site) -> str:
    return "".join(path.read_text() for path in one.layout.submitit.glob("*.log"))


def seen(one: Site) -> Counter[tuple[str, ...]]:
    return Counter(tuple(line.split("|")) for line in (one.root / "seen").read_text().splitlines())


def opened(one: Site) -> list[lines.Open]:
    return [record for record in records(one, "open") if isinstance(record, lines.Open)]


def records(one: Site, kind: str) -> list[lines.AnyRecord | None]:
    from hpc_search.ledger import history

    found = history.lines(one.layout, frozenset({kind.encode()}))
    return [lines.parse_line(line.data) for line in found]


def test_one_worker_a_visible_device_and_never_more(tmp_path: Path) -> None:
    one = site(tmp_path / "site", 8)
    fake = fake_nvml(tmp_path / "gpus.json", h200(), h200(1, instances=[instance()]))

    submit(one, {**fake, "CUDA_VISIBLE_DEVICES": "GPU-00000000,MIG-00000000"}, "workers: 9\n", "--wait")

    assert len(opened(one)) == 2
    assert set(seen(one)) == {("GPU-00000000", "", "cuda", ""), ("MIG-00000000", "", "cuda", "")}
    collect(one.layout)
    with (one.layout.results / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["slice_name"] for row in rows} == {"NVIDIA H200", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"}
    assert {row["slice_kind"] for row in rows} == {"whole", "mig"}


def test_packed_workers_of_this_machine_share_a_daemon_of_their_own_and_the_memory(tmp_path: Path) -> None:
    one = site(tmp_path / "site", 8)
    fake = fake_nvml(tmp_path / "gpus.json", h200())
    profile = "slice: {request: {gres: 'gpu:1'}, pack: {workers: 2, stagger: 0}, expect: {checks: [nvml]}}\n"
    (tmp_path / "tmp").mkdir()
    environ = {**fake, "PATH": fake_control(tmp_path), "TMPDIR": str(tmp_path / "tmp")}

    told = submit(one, {**environ, "CUDA_VISIBLE_DEVICES": "0"}, profile, "--wait")

    assert "2 workers share gpu:1, with an MPS daemon of their own" in told
    assert {record.seat for record in opened(one)} == {"local:0.0", "local:0.1"}
    limit = f"0={int(140 * GIB * 0.45) >> 20}M"
    assert set(seen(one)) == {("GPU-00000000", "0.45", "cuda", limit)}
    assert not [name for name in os.listdir(tmp_path / "tmp") if name.startswith("hpcs-mps-")]


def test_a_daemon_that_the_profile_wants_and_is_not_there_is_said(tmp_path: Path) -> None:
    one = site(tmp_path / "site", 2)
    fake = fake_nvml(tmp_path / "gpus.json", h200())
    profile = "slice: {request: {gres: 'gpu:1'}, pack: {workers: 2, mps: always}, expect: {checks: [nvml]}}\n"

    submit(one, {**fake, "CUDA_VISIBLE_DEVICES": "0", "PATH": "/usr/bin:/bin"}, profile)

    words = "(`mps: always`), and there is none: nvidia-cuda-mps-control is not on PATH"
    wait_until(lambda: words in said(one), TIMEOUT, on_timeout=lambda: said(one))
    assert records(one, "claim") == []


def test_another_gpu_than_the_profile_expects_uses_no_attempt(tmp_path: Path) -> None:
    one = site(tmp_path / "site", 2)
    fake = fake_nvml(tmp_path / "gpus.json", h200())
    block = "slice: {request: {gres: 'gpu:1'}, expect: {name: A100, checks: [nvml]}}\n"

    submit(one, {**fake, "CUDA_VISIBLE_DEVICES": "0"}, block + "on_mismatch: fail\n")

    wait_until(lambda: records(one, "exit"), TIMEOUT, on_timeout=lambda: said(one))
    assert "'NVIDIA H200' does not contain 'A100'" in said(one)
    assert records(one, "claim") == []
    assert mismatches.missing(one.layout).workers == 1

    submit(one, {**fake, "CUDA_VISIBLE_DEVICES": "0"}, block + "on_mismatch: warn\n", "--wait")

    assert one.states() == ["done", "done"]
    assert {record.attempt for record in one.ends()} == {1}


def test_memory_that_others_took_is_not_the_trials_fault(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", h200(free=GIB))
    program = """
if [ -e again ]; then echo '{"v": 1}' >"$HPC_SEARCH_REPORT"; exit 0; fi
touch again
echo "RuntimeError: CUDA error: out of memory"
exit 1
"""
    one = site(tmp_path / "site", 1, program)
    profile = "slice: {request: {gres: 'gpu:1'}, pack: {workers: 2, stagger: 0}, expect: {checks: [nvml]}}\n"

    submit(one, {**fake, "CUDA_VISIBLE_DEVICES": "0"}, profile, "--wait")

    first, last = one.ends()
    assert (first.state, first.cause) == ("pending", "lost")
    assert "63.0 GiB of its 140.0 GiB are this worker's: only 1.0 GiB are free" in first.detail
    assert last.state == "done"
    assert one.entries()[0].ooms == 0


TORCHRUN = """
import json, os, sys, time
from pathlib import Path

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
Path(f"rank-{dist.get_rank()}").write_text(str(os.getpid()))
while Path("gate").exists():
    time.sleep(0.1)
if dist.get_rank() == 0:
    Path(os.environ["HPC_SEARCH_REPORT"]).write_text(json.dumps({"v": total.item()}))
dist.barrier()
"""


def test_a_torchrun_of_two_ranks_is_a_trial_and_no_rank_outlives_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    tmp_path.joinpath("ranks.py").write_text(TORCHRUN)
    run = (
        f"[{sys.executable}, -m, torch.distributed.run, --standalone, --nproc-per-node=2, ranks.py, '{{x}}']"
    )
    text = f"name: ranks\ncommand: {run}\nmetric: {{name: v, goal: max}}\nspace: {{x: [1]}}\nstrategy: grid\n"
    one = Site(tmp_path, text + "heartbeat: 1\nlease: 20\n")
    one.gate.touch()
    with one.worker() as worker:
        ranks = [one.trial_process(f"rank-{rank}") for rank in range(2)]
        worker.kill()
    wait_until(lambda: all(map(gone, ranks)), TIMEOUT)

    one.gate.unlink()
    one.work()

    (result,) = one.results().values()
    assert result.end.value == 3.0
