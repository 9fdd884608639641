"""The README is true: its example runs, its commands exist."""

from __future__ import annotations

import re
from typing import Final

import pytest

from hpc_search.cli import parser
from tests.e2e.command_line import ROOT, Desk

README: Final = (ROOT / "README.md").read_text()
#: What stands for the user's own lines of the example.
MODEL: Final = """
def build(width, lr):
    return {"width": width}, {"lr": lr}

def evaluate(trial, model, optimizer, epoch):
    assert not set(trial.split.train) & set(trial.split.val)
    return model["width"] / 1000 + optimizer["lr"] + epoch / 100
"""


def block(language: str, containing: str) -> str:
    """Return the README's block of *language* that holds *containing*."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return str(found)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The README's search.yaml and train.py with what they need: a model and a table of 60 samples."""
    desk = Desk(tmp_path_factory.mktemp("readme"))
    code = block("python", "def train(trial)")
    assert "        ...  " in code
    line = "        acc = evaluate(trial, model, optimizer, epoch)  "
    (desk.root / "train.py").write_text(MODEL + code.replace("        ...  ", line))
    (desk.root / "search.yaml").write_text(block("yaml", "trial: train.py:train"))
    rows = "".join(f"s{number},{'ab'[number % 2]}\n" for number in range(60))
    (desk.root / "data.csv").write_text("sample,y\n" + rows)
    return desk


@pytest.fixture(scope="module")
def planned(here: Desk) -> str:
    """What `plan` prints of the README's search as it stands."""
    return here.good("plan", "search.yaml")


def test_the_example_plans_as_it_stands(here: Desk, planned: str) -> None:
    assert "200 points x 5 folds x 1 seed = 1,000 trials" in planned
    assert "test share 0.1" in planned
    assert (here.root / "runs/my-search").is_dir()


def test_the_example_runs_with_fewer_points_and_makes_the_results_that_are_named(here: Desk) -> None:
    text = (here.root / "search.yaml").read_text()
    assert text.count("points: 200") == 1
    here.write("small.yaml", text.replace("points: 200", "points: 2").replace("my search", "small"))
    said = here.good("plan", "small.yaml", "--check")
    assert re.search("checked: trial 0 (reached its first report|ended) in", said)
    here.go("small")
    assert "10 done" in here.good("status", "small")
    assert "mean and standard deviation over 5 folds" in here.good("collect", "small")
    assert "equal to the last bit" in here.good("rerun", "small", "3")
    (row,) = (text for call, text in commands() if call.startswith("collect"))
    for name in re.findall(r"`([\w.]+\.(?:csv|json|parquet))`", row):
        assert (here.root / "runs/small/results" / name).is_file(), name


def test_submitting_with_a_profile_shows_the_array_of_the_readme(here: Desk, planned: str) -> None:
    profile = ROOT / re.search(r"start from `(slurm/profiles/[a-z]+\.yaml)`", README)[1]  # type: ignore[index]
    script = here.good("submit", "runs/my-search", "--launcher", "slurm", "--profile", profile, "--dry-run")
    assert re.search(r"#SBATCH --job-name=my-search-[0-9a-f]{8}-0001", script)


def commands() -> list[tuple[str, str]]:
    """Return the rows of the README's table of commands: the call and what stands beside it."""
    return re.findall(r"^\| `((?:plan|[a-z]+ )[^`]*)` \| (.*) \|$", README, flags=re.MULTILINE)


def test_every_verb_of_the_help_is_in_the_readme_and_the_other_way_round() -> None:
    named = {call.split()[0] for call, _ in commands()}
    listed = set(re.findall(r"^    ([a-z]+) ", parser().format_help(), flags=re.MULTILINE))
    assert named == listed


def test_every_option_of_the_readme_is_in_the_help_of_its_verb(here: Desk) -> None:
    assert len(commands()) >= 9
    helps: dict[str, str] = {}
    for call, text in commands():
        verb = call.split()[0]
        helps.setdefault(verb, here.good(verb, "--help"))
        for option in re.findall(r"`?(--[a-z-]+)", f"{call} {text}"):
            assert option in helps[verb], f"{verb} {option}"
        assert "examples:" in helps[verb]


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:hpc_search|slurm|tools|configs)/[\w./-]+)`", README):
        assert name == "slurm/profiles/mysite.yaml" or (ROOT / name).exists(), name
    for name in re.findall(r"^\./(tools/\w+)", README, flags=re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_exit_codes_of_the_readme_are_those_of_the_help() -> None:
    said = re.search(r"^Exit codes: (.*)\.$", README, flags=re.MULTILINE)
    assert said is not None
    shown = parser().format_help()
    for number in re.findall(r"(\d+) ", said[1]):
        assert re.search(rf"\b{number} ", shown.split("exit codes:")[1]), number
