"""Catalogs: named experiments over defaults, chosen by mode or name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_search.config import Asked, Chosen, dump_search, parse_search
from hpc_search.errors import ConfigError, UsageError
from hpc_search.records.search import Search, StrategySpec
from hpc_search.space import Choice, Space
from hpc_search.strategies import make

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
#: The documented ranker search: nine rows and the tenth of its quick start; `full` is all of them.
RANKER = """\
fixed: {epochs: 30, dropout: 0.3, features: all}
catalog:
  modes: {quick: [simple_mlp, tiny_mlp, clip_only]}
  experiments:
    baseline: {dims: [512, 256], batch: 64, lr: 1e-4}
    simple_mlp: {dims: [256], batch: 64, lr: 1e-4}
    tiny_mlp: {dims: [128], batch: 128, lr: 5e-4}
    clip_only: {dims: [256], batch: 128, lr: 5e-4, features: clip}
    iqa_only: {dims: [32], batch: 256, lr: 1e-3, features: iqa}
    high_dropout: {dims: [512, 256], batch: 64, lr: 1e-4, dropout: 0.5}
    larger_batches: {dims: [256], batch: 256, lr: 1e-3}
    high_lr: {dims: [256], batch: 128, lr: 1e-3}
    low_lr: {dims: [256], batch: 128, lr: 5e-5}
    quick_test: {dims: [128], batch: 128, lr: 5e-4, epochs: 5}
"""


def read(body: str, strategy: str = "catalog", chosen: Chosen | None = None, base: str = ".") -> Search:
    text = f"{HEAD}{body}strategy: {strategy}\n"
    return parse_search(text.encode(), f"{base}/f.yaml", Asked(chosen or Chosen()))


def told(*given: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*given, **more)
    return str(caught.value)


def points(search: Search) -> list[dict[str, Any]]:
    strategy = make(search.strategy)
    return [strategy.point(search.space, index) for index in range(strategy.count(search.space))]


@pytest.mark.parametrize(
    ("strategy", "count"), [("catalog", 10), ("{catalog: {mode: full}}", 10), ("{catalog: {mode: quick}}", 3)]
)
def test_mode_says_how_many_experiments_run(strategy: str, count: int) -> None:
    assert len(points(read(RANKER, strategy))) == count


def test_experiment_is_its_values_over_the_defaults_under_its_name() -> None:
    found = {point["experiment"]: point for point in points(read(RANKER))}
    assert found["high_dropout"] == {
        "experiment": "high_dropout",
        "dims": [512, 256],
        "batch": 64,
        "lr": 1e-4,
        "epochs": 30,
        "dropout": 0.5,
        "features": "all",
    }
    assert (found["quick_test"]["epochs"], found["iqa_only"]["features"]) == (5, "iqa")


def test_names_are_run_in_the_order_asked_for() -> None:
    search = read(RANKER, "{catalog: {names: [low_lr, baseline]}}")
    assert [point["experiment"] for point in points(search)] == ["low_lr", "baseline"]


def test_command_line_chooses_in_place_of_the_file() -> None:
    for chosen, names in [
        (Chosen(mode="full"), 10),
        (Chosen(names=("iqa_only",)), 1),
        (Chosen(names=("iqa_only", "low_lr", "iqa_only")), 2),
        (Chosen(), 3),
    ]:
        assert len(points(read(RANKER, "{catalog: {mode: quick}}", chosen))) == names


def test_name_of_the_experiment_is_nothing_that_a_trial_has_to_read() -> None:
    space = read(RANKER).space
    assert "experiment" not in space.names
    assert set(space.varied) == {"dims", "batch", "lr", "dropout", "features", "epochs"}


@pytest.mark.parametrize(
    "strategy", ["catalog", "{catalog: {mode: quick}}", "{catalog: {names: [baseline]}}"]
)
def test_dumped_catalog_reads_back_equal(strategy: str) -> None:
    search = read(RANKER, strategy)
    assert parse_search(dump_search(search).encode(), "f.yaml") == search


TABLE = """\
experiment_name,dims,batch,clip,notes
baseline,"[512, 256]",64,true,"the first, it overfits"
small,"256",64,TRUE,
plain,"512,256",64,false,no clip
"""


def test_table_has_an_experiment_a_row(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(TABLE)
    body = "catalog: {experiments: e.csv, ignore: [notes], modes: {quick: [small]}}\n"
    found = points(read(body, base=str(tmp_path)))
    assert found == [
        {"experiment": "baseline", "dims": [512, 256], "batch": 64, "clip": True},
        {"experiment": "small", "dims": 256, "batch": 64, "clip": True},
        {"experiment": "plain", "dims": "512,256", "batch": 64, "clip": False},
    ]
    assert len(points(read(body, "{catalog: {mode: quick}}", base=str(tmp_path)))) == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("batch\n1\n", "e.csv:2: has no name"),
        ("name,batch\na,1\na,2\n", "e.csv:3: the experiment 'a' is also on line 2"),
        ("name,batch,lr\na,1,1\nb,2,\n", "e.csv:3: the experiment 'b' has no value for 'lr'"),
        ("name,batch\na,1\nb,1\n", "e.csv:3: the experiments 'a' and 'b' are equal"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_its_line(tmp_path: Path, table: str, words: str) -> None:
    (tmp_path / "e.csv").write_text(table)
    assert words in told("catalog: {experiments: e.csv}\n", base=str(tmp_path))


@pytest.mark.parametrize(
    ("body", "strategy", "words"),
    [
        (RANKER, "{catalog: {mode: quik}}", "no mode 'quik'; did you mean 'quick'?"),
        (RANKER, "{catalog: {names: [tiny_mpl]}}", "no experiment 'tiny_mpl'; did you mean 'tiny_mlp'?"),
        (
            RANKER.replace("[simple_mlp,", "[simpel_mlp,"),
            "catalog",
            "catalog.modes.quick[0]: the catalog has no",
        ),
        (RANKER.replace("{quick:", "{full:"), "catalog", "modes.full: the mode 'full' is always there"),
        (RANKER + "space: {a: [1]}\n", "catalog", "space cannot stand beside a catalog"),
        (RANKER + "linked: [{a: [1], b: [2]}]\n", "catalog", "linked cannot stand beside a catalog"),
        (RANKER + "points: [{lr: 1}]\n", "catalog", "points cannot stand beside a catalog"),
        ("catalog: {modes: {a: [b]}}\n", "catalog", "the key 'experiments' is missing"),
        ("catalog: {experiments: {}}\n", "catalog", "is empty: it needs at least one experiment"),
        (
            "catalog: {experiments: {a: {experiment: 1}}}\n",
            "catalog",
            "experiment is the name of the experiment",
        ),
        (
            "catalog: {experiments: {a: {lr: 1}, b: }}\n",
            "catalog",
            "the experiment 'b' has no value for 'lr'",
        ),
        ("catalog: {experiments: {a: {lr: 1}, b: {lr: 1.0}}}\n", "catalog", "'a' and 'b' are equal"),
        ("catalog: {experiments: {a: [1]}}\n", "catalog", "catalog.experiments.a: is not a mapping"),
    ],
)
def test_what_is_wrong_is_told(body: str, strategy: str, words: str) -> None:
    assert words in told(body, strategy)


def test_name_on_the_command_line_that_does_not_exist_has_its_near_miss_named() -> None:
    message = told(RANKER, chosen=Chosen(names=("base_line",)))
    assert "no experiment 'base_line'; did you mean 'baseline'?" in message


def test_command_may_have_the_name_of_the_experiment_as_an_argument() -> None:
    head = HEAD.replace("trial: train.py:train", "command: [python, t.py, '{experiment}', '{lr}']")
    text = f"{head}catalog: {{experiments: {{a: {{lr: 1}}}}}}\nstrategy: catalog\n"
    assert parse_search(text.encode(), "f.yaml").strategy == StrategySpec("catalog", {"names": ["a"]})


def test_catalog_of_another_space_is_refused() -> None:
    with pytest.raises(UsageError, match="2 experiments does not fit 3 points"):
        make(StrategySpec("catalog", {"names": ["a", "b"]})).count(Space({"x": Choice((1, 2, 3))}))
