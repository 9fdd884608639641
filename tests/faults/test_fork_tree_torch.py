"""Templates and trials that use torch: threads, seeds, loaders, what must not be forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.site import TIMEOUT, Site
from tests.faults.test_fork_tree import HEAD, SEARCH, process, read, signal_step

TORCH = pytest.importorskip("torch", reason="the tests below are about torch")
#: Workers import torch a dozen times below.
pytestmark = pytest.mark.timeout(400)

NUMBERS = (
    HEAD
    + """
import numpy, torch

AT_IMPORT = {
    "available": torch.cuda.is_available(),
    "random": [random.random(), float(torch.rand(())), float(numpy.random.rand())],
    "threads": torch.get_num_threads(),
    "omp": os.environ["OMP_NUM_THREADS"],
    "check": os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"],
}
if (ROOT / "warm").exists():
    torch.set_num_threads(4)
    weights = torch.ones(600, 600, requires_grad=True)
    (weights @ weights).exp().sum().backward()

def numbers():
    return [random.random(), float(torch.rand(())), float(numpy.random.rand()), *{"a", "b", "c", "d", "e"}]

def train(trial):
    trial.params["x"]
    first = numbers()
    weights = torch.rand(600, 600, requires_grad=True)
    optimizer = torch.optim.AdamW([weights])
    (weights @ weights).sum().backward()
    optimizer.step()
    write(f"numbers-{trial.number}", {
        "first": first, "weights": float(weights.sum()), "at_import": AT_IMPORT,
        "threads": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"], "asked": trial.threads,
        "dynamo": "torch._dynamo" in IMPORTED, "bad_fork": torch.cuda._is_in_bad_fork(),
    })
    return {"acc": float(weights.sum())}

def remember():
    global IMPORTED
    IMPORTED = set(sys.modules)

os.register_at_fork(after_in_child=remember)
IMPORTED = set()
"""
)


def work(site: Site) -> None:
    """Run a worker to its end; torch may take a minute to import on a busy machine."""
    with site.worker() as worker:
        assert worker.wait(3 * TIMEOUT) == 0, site.said()


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Site]:
    """Run one search three times; in the third the module trains with four threads when it is imported."""
    sites = []
    for name in ("one", "two", "warm"):
        site = Site(tmp_path_factory.mktemp(name), SEARCH + "threads: 2\n", NUMBERS)
        if name == "warm":
            (site.root / "warm").touch()
        work(site)
        sites.append(site)
    return sites


def test_a_template_whose_import_trained_with_4_threads_is_not_forked_and_nothing_hangs(
    three_runs: list[Site],
) -> None:
    one, _, warm = three_runs
    assert "a fresh process a trial, because importing the code started" in warm.said()
    assert warm.states() == ["done", "done"]
    assert "fresh process" not in one.said()


def test_two_runs_of_a_search_give_the_same_numbers_forked_or_fresh(three_runs: list[Site]) -> None:
    for number in (0, 1):
        one, two, warm = (read(site, f"numbers-{number}") for site in three_runs)
        assert one["first"] == two["first"] == warm["first"]
        assert one["weights"] == two["weights"] == warm["weights"]
    assert read(three_runs[0], "numbers-0")["first"] != read(three_runs[0], "numbers-1")["first"]
    drawn = [read(site, "numbers-0")["at_import"]["random"] for site in three_runs[:2]]
    assert drawn[0] != drawn[1], "the module's own numbers are not ours to set"


def test_the_template_imports_with_one_thread_and_the_trial_has_the_number_asked_for(
    three_runs: list[Site],
) -> None:
    found = read(three_runs[0], "numbers-0")
    assert (found["at_import"]["threads"], found["at_import"]["omp"]) == (1, "1")
    assert (found["threads"], found["omp"], found["asked"]) == (2, "2", 2)
    warm = read(three_runs[2], "numbers-0")
    assert (warm["threads"], warm["omp"], warm["asked"]) == (2, "2", 2)
    assert three_runs[0].run.plan.search.threads == 2


def test_the_template_has_what_torch_loads_late_and_asks_nvml_for_gpus(three_runs: list[Site]) -> None:
    found = read(three_runs[0], "numbers-0")
    assert found["dynamo"]
    assert not found["bad_fork"]
    assert found["at_import"]["check"] == "1"
    assert found["at_import"]["available"] == TORCH.cuda.is_available()


DOUBTS = """
import os, signal, sys, time
from pathlib import Path
import torch
from hpc_search.runners import template

assert template.fork_doubt() == "" and template.canary(2, 60.0) == ""
template._GPU = sys.argv[1] + "/gpu"
device = open(sys.argv[1] + "/gpu0", "w")
print(template.fork_doubt())
device.close()
torch.cuda._initialized = True
print(template.fork_doubt())
torch.cuda._initialized = False
torch.cuda._is_in_bad_fork = lambda: True
print(template.canary(1))
torch.cuda._is_in_bad_fork = lambda: False
torch.set_num_threads(4)
torch.ones(1 << 20).exp()
template.threads = lambda: 1
print(template.canary(1, 3.0))
"""


def test_what_cannot_be_forked_is_found_by_the_canary_or_before(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", DOUBTS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert said.stdout.splitlines() == [
        "importing the code opened a GPU",
        "importing the code initialised CUDA",
        "a forked process died",
        "a forked process did not answer within 3 s",
    ], said.stderr


LOADER = (
    HEAD
    + """
import torch
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, at):
        return torch.tensor(float(at)) * torch.rand(())

def train(trial):
    weights = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=0.1)
    state = {"epoch": 0}
    start = trial.restore(state=state, optimizer=optimizer, weights=weights)
    for epoch in range(start, 3):
        shuffled = torch.Generator().manual_seed(1000 * trial.number + epoch)
        loader = DataLoader(Numbers(), 4, shuffle=True, generator=shuffled, num_workers=trial.params["x"])
        for at, batch in enumerate(loader):
            if (epoch, at) == (1, 2):
                wait_for_stop(trial, f"waiting-{trial.number}-{trial.attempt}")
            optimizer.zero_grad()
            ((weights - batch.mean()) ** 2).sum().backward()
            optimizer.step()
        trial.save(epoch + 1, state=state, optimizer=optimizer, weights=weights)
    return {"acc": float(weights)}
"""
)


def test_loaders_at_stops_of_the_whole_step_cost_a_step_at_most_and_change_nothing(tmp_path: Path) -> None:
    """The workers of a DataLoader would die of the TERM, and their trial with an error in mid-epoch."""
    search = SEARCH.replace("[1, 2]", "[2]").replace("seeds: [7]", "seeds: [1, 2]")
    undisturbed = Site(tmp_path / "undisturbed", search, LOADER)
    work(undisturbed)
    site = Site(tmp_path / "site", search, LOADER)
    for trial, number in enumerate((signal.SIGTERM, signal.SIGUSR2)):
        site.gate.touch()
        with site.worker() as worker:
            process(site, f"waiting-{trial}-1")
            signal_step(worker, number)
            assert worker.wait(TIMEOUT) == 0, site.said()
        site.gate.unlink()
        (end,) = site.ends(trial)
        assert (end.state, end.cause, end.step) == ("pending", "preempted", 2), end.detail
    work(site)
    values = [
        [result.end.value for _, result in sorted(one.results().items())] for one in (undisturbed, site)
    ]
    assert values[0] == values[1]
    assert [end.cause for end in site.ends()].count("preempted") == 2


@pytest.mark.skipif(not TORCH.cuda.is_available(), reason="needs a GPU")
def test_asking_for_a_gpu_at_import_leaves_the_template_fit_to_be_forked(tmp_path: Path) -> None:
    code = """
        import torch
        assert torch.cuda.is_available()

        def train(trial):
            return {"acc": float(torch.ones(3, device="cuda").sum()) * trial.params["x"]}
        """
    site = Site(tmp_path, SEARCH, code)
    assert "fresh process" not in site.work()
    assert [result.end.value for _, result in sorted(site.results().items())] == [3.0, 6.0]
