"""Slices on the cluster's fake GPUs: what workers get, what they do where it is not what they expect."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hpc_search.launchers import nodes
from hpc_search.ledger import mismatches
from tests.gpus import fake_nvml, h200, instance
from tests.slurm.cluster import Cluster
from tests.slurm.searches import Search
from tests.waiting import wait_until

PROGRAM = """
echo "$CUDA_VISIBLE_DEVICES|$HPC_SEARCH_MEMORY_FRACTION|$1" >>seen
sleep 0.3
echo "{\\"v\\": $2}" >"$HPC_SEARCH_REPORT"
"""
SEARCH = """
name: Slices
command: [sh, program.sh, "{device}", "{x}"]
metric: {name: v, goal: max}
space: {x: [1, 2, 3, 4]}
strategy: grid
heartbeat: 1
lease: 20
"""
PROFILE = "partition: low\ntime: 5 min\nmem: 100M\nworkers: %d\nslice: %s\nenvironment: [FAKE_NVML]\n"
#: By the name of the search: workers, and the slice.
KINDS = {
    "whole": (2, "{request: {gres: 'gpu:h200:1'}, expect: {name: H200, sm_min: 132, checks: [nvml]}}"),
    "two": (1, "{request: {gres: 'gpu:h200:2'}}"),
    "mig": (2, "{request: {gres: 'gpu:1g.10gb:1'}, expect: {name: 1g.10gb, memory_gib: [9, 11]}}"),
    "shard": (2, "{request: {gres: 'shard:1'}, limits: {memory_fraction: 0.25}}"),
    "packed": (2, "{request: {gres: 'gpu:h200:1'}, pack: {workers: 2, stagger: 0}}"),
    "cpu": (1, "{}"),
}
_LOOKS = "checks: [environment, nvml]"


class SliceSearch(Search):
    """A search whose program notes its devices, on nodes with an NVML of ours."""

    def __init__(self, cluster: Cluster, directory: Path, workers: int, block: str, **nvml: Any) -> None:
        directory.mkdir()
        super().__init__(cluster, directory)
        self.write("program.sh", PROGRAM)
        self.write("profile.yaml", PROFILE % (workers, block))
        self.plan(SEARCH)
        gpus = (h200(), h200(1), h200(2, instances=[instance(0)]), h200(3, instances=[instance(1)]))
        self.submit(environment=fake_nvml(directory / "gpus.json", *gpus, **nvml), exclude=self.exclude())

    def exclude(self) -> str:
        return ""

    def rows(self) -> list[dict[str, str]]:
        """Return results.csv."""
        self.collect()
        with (self.run / "results" / "results.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def seen(self) -> set[tuple[str, ...]]:
        """Return what the programs noted: CUDA_VISIBLE_DEVICES, memory fraction, device."""
        lines = (self.directory / "seen").read_text().splitlines()
        return {tuple(line.split("|")) for line in lines}

    def notes(self, event: str) -> list[tuple[str, str]]:
        """Return (worker, text) of the notes of *event*."""
        return [(worker, note.text) for worker, note in self.records("note") if note.event == event]


class OnTwoNodes(SliceSearch):
    """Only node1 and node2 are asked for."""

    def exclude(self) -> str:
        return "node3,node4"


@pytest.fixture(scope="module")
def searches(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SliceSearch]:
    """Start all searches of this file: they wait for SLURM at the same time."""
    root = tmp_path_factory.mktemp("slices")
    found: dict[str, SliceSearch] = {}
    wanted = f"{{request: {{gres: 'gpu:h200:1'}}, expect: {{name: H200, {_LOOKS}}}}}"
    other = [h200(index, name="NVIDIA A100") for index in range(4)]
    node = {"node1": {"gpus": other}}
    found["nowhere"] = SliceSearch(slurm, root / "nowhere", 1, wanted.replace("H200", "B300"))
    found["one node"] = OnTwoNodes(slurm, root / "one", 3, wanted, nodes=node)
    for name, (workers, block) in KINDS.items():
        looks = block if "checks" in block else block.replace("expect: {", f"expect: {{{_LOOKS}, ")
        if "expect" not in looks and name != "cpu":
            looks = f"{looks[:-1]}, expect: {{{_LOOKS}}}}}"
        found[name] = SliceSearch(slurm, root / name, workers, looks)
    return found


@pytest.mark.parametrize(
    ("name", "devices", "fraction", "device", "slice_name", "count"),
    [
        ("whole", {"0", "1"}, "", "cuda", "NVIDIA H200", "1"),
        ("two", {"0,1"}, "", "cuda", "NVIDIA H200", "2"),
        ("mig", {"2", "3"}, "", "cuda", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "1"),
        ("shard", {"0", "1"}, "0.25", "cuda", "NVIDIA H200", "1"),
        ("packed", {"0", "1"}, "0.45", "cuda", "NVIDIA H200", "1"),
        ("cpu", {""}, "", "cpu", "", "0"),
    ],
)
def test_trials_see_their_slice_and_results_name_it(
    searches: dict[str, SliceSearch],
    name: str,
    devices: set[str],
    fraction: str,
    device: str,
    slice_name: str,
    count: str,
) -> None:
    search = searches[name]

    search.wait()

    seen = search.seen()
    assert {one[0] for one in seen} <= devices
    assert {one[1:] for one in seen} == {(fraction, device)}
    rows = search.rows()
    assert [row["state"] for row in rows] == ["done"] * 4
    assert {row["slice_count"] for row in rows} == {count}
    assert {row["slice_kind"] for row in rows} == {"whole" if name == "two" else name}
    if slice_name:
        assert {row["slice_name"] for row in rows} == {slice_name}
        assert {row["slice_driver"] for row in rows} == {"580.65.06"}
        assert all(row["slice_uuid"] and int(row["slice_memory"]) and int(row["slice_sms"]) for row in rows)
    assert search.notes(mismatches.MISMATCH) == []


def test_packed_workers_sit_on_seats_of_one_task(searches: dict[str, SliceSearch]) -> None:
    search = searches["packed"]
    search.wait()

    opened = [record for _, record in search.records("open")]

    assert {record.seat for record in opened} == {"slurm:0:0.0", "slurm:0:0.1"}


def test_a_result_says_on_which_slice_it_was_made(searches: dict[str, SliceSearch]) -> None:
    search = searches["whole"]
    search.wait()
    search.collect()

    whole = json.loads((search.run / "results" / "search_results.json").read_text())

    trial = whole["results"][3]
    its_slice = whole["slices"][trial["slice"]]
    assert its_slice["name"] == "NVIDIA H200"
    assert its_slice["memory"] == 140 << 30


def test_a_task_on_a_node_with_another_gpu_runs_again_elsewhere_without_an_attempt(
    searches: dict[str, SliceSearch],
) -> None:
    search = searches["one node"]

    search.wait()

    search.wait_for_the_end_of_all_jobs()
    wrong = search.notes(mismatches.MISMATCH)
    assert wrong, search
    assert {text for _, text in wrong} == {"'NVIDIA A100' does not contain 'H200'"}
    assert {text for _, text in search.notes(mismatches.ELSEWHERE)} == {"node1"}
    claimed = {worker for worker, _ in search.records("claim")}
    assert not claimed & {worker for worker, _ in wrong}
    assert {record.attempt for _, record in search.records("end")} == {1}
    assert {record.node for _, record in search.records("end")} == {"node2"}
    missing = mismatches.missing(search.layout)
    assert (missing.workers, missing.by_node) == (0, {"node1": len(wrong)})
    if len(wrong) > 1:
        assert nodes.read(search.layout) == {"node1": "not the slice that the profile expects"}


def test_a_slice_that_no_node_has_is_looked_for_twice_more_and_then_given_up(
    searches: dict[str, SliceSearch],
) -> None:
    search = searches["nowhere"]

    wait_until(lambda: mismatches.missing(search.layout).gave_up, 120, on_timeout=lambda: search)

    search.wait_for_the_end_of_all_jobs()
    missing = mismatches.missing(search.layout)
    (seat,) = missing.gave_up
    assert seat.seat == "slurm:0:0"
    assert seat.words == "'NVIDIA H200' does not contain 'B300'"
    assert sum(missing.by_node.values()) == 1 + 2
    assert len(missing.by_node) == 3
    assert search.states() == {"pending": 4}
    (token,) = search.tokens()
    log = (search.run / "submitit" / f"{token}_0.log").read_text()
    assert "no attempt was used" in log
    # Where no node fits, the profile is wrong and not the nodes.
    assert nodes.read(search.layout) == {}
