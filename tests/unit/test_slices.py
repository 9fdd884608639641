"""What a worker got is seen through a real looking process, and judged against its profile."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc_search.config.profile import parse_profile
from hpc_search.config.slices import CHECKS, Slice
from hpc_search.slices import foreign, limits
from hpc_search.slices.judge import devices_expected, judge, requested
from hpc_search.slices.look import NO_TORCH, visible
from hpc_search.slices.observe import observe, processor
from hpc_search.slices.observed import Device, Observed, decode, encode
from tests.gpus import GIB, fake_nvml, h200, instance

ENVIRONMENT = ("environment",)


def profile_slice(text: str) -> Slice:
    return parse_profile(f"slice: {text}".encode(), "profile.yaml").slice


def seen_by(checks: tuple[str, ...], timeout: float = 30.0, fake: dict[str, str] | None = None) -> Observed:
    return observe(checks, {**os.environ, "CUDA_VISIBLE_DEVICES": "0", **(fake or {})}, timeout)


def got(count: int = 1, **changes: Any) -> Observed:
    """Return a sound observation of *count* H200."""
    devices = tuple(
        Device(name="NVIDIA H200", uuid=f"GPU-{index}", memory=140 * GIB, sms=132, free=139 * GIB)
        for index in range(count)
    )
    names = tuple(map(str, range(count)))
    return Observed(**{"devices": devices, "visible": names, "looked": ("environment", "nvml"), **changes})


# -- looking


def test_a_gpu_is_seen_by_its_uuid_with_memory_multiprocessors_and_driver(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", h200(), h200(1, free=GIB))

    seen = seen_by(("nvml",), fake={**fake, "CUDA_VISIBLE_DEVICES": "GPU-00000001"})

    (device,) = seen.devices
    assert device == Device(name="NVIDIA H200", uuid="GPU-00000001", memory=140 * GIB, sms=132, free=GIB)
    assert (seen.kind, seen.driver, seen.cuda, seen.compute_mode) == ("whole", "580.65.06", "13.0", "default")
    assert decode(encode(seen)) == seen


def test_an_index_in_mig_mode_means_the_first_instance_as_for_cuda(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", h200(instances=[instance(0), instance(1)]))

    seen = seen_by(("nvml",), fake=fake)

    (device,) = seen.devices
    assert (device.uuid, device.mig, device.sms) == ("MIG-00000000", "1g.10gb", 16)
    assert seen.kind == "mig"


def test_an_index_of_the_node_is_found_where_the_job_sees_its_own_devices_alone(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", h200(), h200(1))

    seen = seen_by(("nvml",), fake={**fake, "CUDA_VISIBLE_DEVICES": "4,5"})

    assert [device.uuid for device in seen.devices] == ["GPU-00000000", "GPU-00000001"]


def test_a_driver_that_does_not_fit_is_quoted(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", errors={"nvmlInit": "Driver/library version mismatch"})

    seen = seen_by(("nvml",), fake=fake)

    assert seen.unseen == {"nvml": "NVMLError: Driver/library version mismatch"}
    wanted = profile_slice("{request: {gres: 'gpu:1'}, expect: {checks: [nvml]}}")
    assert judge(wanted, seen) == ("no NVIDIA driver answers: NVMLError: Driver/library version mismatch")


def test_a_driver_that_hangs_does_not_hang_the_worker(tmp_path: Path) -> None:
    fake = fake_nvml(tmp_path / "gpus.json", h200(), hangs=["nvmlDeviceGetMemoryInfo"])
    begun = time.monotonic()

    seen = seen_by(("nvml",), timeout=1.0, fake=fake)

    assert time.monotonic() - begun < 30
    assert seen.unseen == {"nvml": "did not answer in 1 s"}


def test_a_driver_that_crashes_the_process_that_looks_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("import os; os.kill(os.getpid(), 11)\n")

    seen = seen_by(("nvml",), fake={"PYTHONPATH": str(tmp_path)})

    assert seen.unseen == {"nvml": "ended its process by a crash"}


def test_looking_without_torch_takes_no_time_to_speak_of_and_names_the_processor(tmp_path: Path) -> None:
    seen = seen_by(ENVIRONMENT)

    assert seen.cpu
    assert seen.looked == ENVIRONMENT
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2.0 GHz\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU @ 2.0 GHz"
    assert processor(tmp_path / "none")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0, 1", ("0", "1")),
        ("0,-1,1", ("0",)),
        ("MIG-abc", ("MIG-abc",)),
    ],
)
def test_cuda_visible_devices_ends_at_the_first_entry_that_is_none(
    value: str | None, found: tuple[str, ...] | None
) -> None:
    assert visible(value) == found


# -- judging


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("gpu:1", {"gpu": 1}),
        ("gpu", {"gpu": 1}),
        ("gpu:h200:2", {"gpu": 2}),
        ("gpu:1g.10gb:1", {"gpu": 1}),
        ("gpu:a100_1g.5gb", {"gpu": 1}),
        ("shard:2", {"shard": 2}),
        ("gres/gpu:a100:4", {"gpu": 4}),
    ],
)
def test_the_count_is_the_last_part_of_a_request(gres: str, found: dict[str, int]) -> None:
    assert requested(gres) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("{}", 0),
        ("{request: {gres: 'gpu:h200:2'}}", 2),
        ("{request: {gres: 'gpu:1g.10gb:3'}}", 1),
        ("{request: {gres: 'shard:4'}}", 1),
        ("{request: {gres: 'mps:50'}}", 1),
        ("{request: {gres: 'gpu:1'}, pack: {workers: 4}}", 1),
    ],
)
def test_a_worker_expects_the_devices_that_it_asked_for(text: str, count: int) -> None:
    assert devices_expected(profile_slice(text)) == count


def test_the_right_slice_is_no_mismatch() -> None:
    expect = "{memory_gib: [130, 145], name: h200, sm_min: 130, free_gib: 100}"

    assert judge(profile_slice(f"{{request: {{gres: 'gpu:h200:1'}}, expect: {expect}}}"), got()) == ""
    assert judge(profile_slice("{request: {gres: 'gpu:h200:2'}}"), got(2)) == ""
    assert judge(profile_slice("{}"), Observed()) == ""


@pytest.mark.parametrize(
    ("text", "seen", "words"),
    [
        ("{request: {gres: 'gpu:1'}}", Observed(), "no device: CUDA_VISIBLE_DEVICES is not set"),
        ("{request: {gres: 'gpu:1'}}", Observed(visible=()), "names no device, gpu:1 was asked for"),
        (
            "{request: {gres: 'gpu:2'}}",
            got(1),
            "1 device instead of 2 (CUDA_VISIBLE_DEVICES=0, asked: gpu:2)",
        ),
        ("{request: {gres: 'gpu:1'}, expect: {name: A100}}", got(), "'NVIDIA H200' does not contain 'A100'"),
        (
            "{request: {gres: 'gpu:1'}, expect: {memory_gib: [70, 81]}}",
            got(),
            "NVIDIA H200 has 140.0 GiB of memory instead of 70 to 81",
        ),
        (
            "{request: {gres: 'gpu:1'}, expect: {sm_min: 140}}",
            got(),
            "NVIDIA H200 has 132 multiprocessors instead of 140 or more",
        ),
        (
            "{request: {gres: 'gpu:1'}, expect: {free_gib: 139.5}}",
            got(),
            "NVIDIA H200 has 139.0 GiB of free memory instead of 139.5 or more",
        ),
        ("{request: {gres: 'gpu:1g.10gb:1'}}", got(), "NVIDIA H200 is a whole GPU instead of a MIG instance"),
        (
            "{request: {gres: 'gpu:1'}}",
            got(devices=(Device(name="H100 MIG", mig="1g.10gb"),)),
            "H100 MIG is a MIG instance (1g.10gb) instead of a whole GPU",
        ),
        ("{request: {gres: 'shard:2'}}", got(shards="1"), "SLURM_SHARDS_ON_NODE is 1 instead of 2"),
        ("{request: {gres: 'shard:1'}}", got(), "SLURM_SHARDS_ON_NODE is not set instead of 1"),
        (
            "{request: {gres: 'mps:50'}}",
            got(),
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE is not set, expected more than 0 and up to 100",
        ),
        ("{request: {gres: 'mps:50'}}", got(threads_percent="1250"), "is 1250, expected more than 0"),
        ("{request: {gres: 'gpu:1'}}", got(torch_devices=0), "torch sees 0 devices instead of 1"),
        ("{request: {gres: 'gpu:1'}}", got(wrong="device 0 multiplies"), "device 0 multiplies"),
        (
            "{request: {gres: 'gpu:1'}}",
            got(unseen={"canary": "did not answer in 60 s"}),
            "the product of two matrices on the GPU: did not answer in 60 s",
        ),
    ],
)
def test_every_difference_is_said_in_words(text: str, seen: Observed, words: str) -> None:
    assert words in judge(profile_slice(text), seen)


def test_all_differences_are_said_at_once() -> None:
    wanted = profile_slice("{request: {gres: 'gpu:2'}, expect: {name: A100, sm_min: 140}}")

    assert judge(wanted, got(1)).count(";") == 3


def test_torch_that_is_not_installed_is_no_mismatch_and_a_missing_driver_is() -> None:
    wanted = profile_slice("{request: {gres: 'gpu:1'}}")

    assert wanted.expect.checks == CHECKS
    assert judge(wanted, got(unseen={"torch": NO_TORCH, "canary": NO_TORCH})) == ""
    assert judge(wanted, Observed(visible=("0",), unseen={"nvml": "no library"})) == (
        "no NVIDIA driver answers: no library"
    )


def test_checks_that_are_not_listed_are_not_asked_for() -> None:
    wanted = profile_slice("{request: {gres: 'gpu:1'}, expect: {checks: [environment]}}")

    assert judge(wanted, Observed(visible=("0",))) == ""


# -- limits


def test_packed_workers_divide_the_memory_and_leave_room_for_contexts() -> None:
    assert limits.fraction(profile_slice("{request: {gres: 'gpu:1'}, pack: {workers: 4}}")) == 0.225
    given = "{request: {gres: 'gpu:1'}, pack: {workers: 4}, limits: {memory_fraction: 0.2}}"
    assert limits.fraction(profile_slice(given)) == 0.2
    assert limits.fraction(profile_slice("{request: {gres: 'gpu:1'}}")) == 0
    assert limits.fraction(profile_slice("{pack: {workers: 4}}")) == 0


def test_limits_reach_torch_jax_and_the_clients_of_an_own_daemon() -> None:
    text = (
        "{request: {gres: 'gpu:1'}, pack: {workers: 4}, limits: {memory_fraction: 0.25, threads_percent: 30}}"
    )
    wanted = profile_slice(text)

    plain = limits.variables(wanted, got(), own_daemon=False)
    under_mps = limits.variables(wanted, got(), own_daemon=True)

    assert plain == {"HPC_SEARCH_MEMORY_FRACTION": "0.25", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.25"}
    assert under_mps == plain | {
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={35 * 1024}M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }


# -- memory of others

_TORCH_SAYS = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "80.00 GiB of which {free} GiB is free. Process 77 has 60.00 GiB memory in use. Including non-PyTorch "
    "memory, this process has {own} GiB memory in use."
)
_SHARE = foreign.Share(20 * GIB, 80 * GIB)


@pytest.mark.parametrize(
    ("detail", "free", "foreign_memory"),
    [
        (_TORCH_SAYS.format(free="1.00", own="9.00"), None, True),
        # It had its share, or could have had it.
        (_TORCH_SAYS.format(free="1.00", own="20.50"), 1 * GIB, False),
        (_TORCH_SAYS.format(free="15.00", own="9.00"), 1 * GIB, False),
        ("CUDA out of memory", 5 * GIB, True),
        ("CUDA out of memory", 40 * GIB, False),
        ("CUDA out of memory", None, False),
    ],
)
def test_memory_is_foreign_where_others_left_less_than_the_share(
    detail: str, free: int | None, foreign_memory: bool
) -> None:
    assert bool(foreign.taken(_SHARE, detail, free)) is foreign_memory


def test_without_a_share_nobody_can_say_what_was_whose() -> None:
    assert foreign.taken(None, _TORCH_SAYS.format(free="1.00", own="9.00"), 0) == ""


class _Cuda:
    """What of torch.cuda is called."""

    def __init__(self) -> None:
        self.fractions: list[tuple[float, int]] = []

    def device_count(self) -> int:
        return 2

    def set_per_process_memory_fraction(self, fraction: float, device: int) -> None:
        self.fractions.append((fraction, device))


def test_torch_is_held_to_its_share_of_every_device_where_it_uses_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = SimpleNamespace(cuda=_Cuda())
    monkeypatch.setitem(sys.modules, "torch", torch)
    share = {limits.FRACTION: "0.225"}

    limits.hold_torch("cpu", share)
    limits.hold_torch("cuda", {})
    assert torch.cuda.fractions == []

    limits.hold_torch("cuda", share)
    assert torch.cuda.fractions == [(0.225, 0), (0.225, 1)]
