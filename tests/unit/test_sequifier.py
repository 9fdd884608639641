"""Searches of sequifier 1.x: linked lists, one product, its defects shown right; and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml

from hpc_search.config import parse_search
from hpc_search.config.sequifier import Imported, import_sequifier
from hpc_search.errors import ConfigError
from hpc_search.records.search import OomRetry, StrategySpec
from hpc_search.space import canonical
from hpc_search.strategies import make

OUTER: dict[str, Any] = {
    "project_root": ".",
    "metadata_config_path": "configs/metadata_configs/data.json",
    "hp_search_name": "my-search",
    "search_strategy": "grid",
    "n_samples": None,
    "model_config_write_path": "configs/hp_search",
    "input_columns": [["item"]],
    "target_columns": ["item"],
    "target_column_types": {"item": "categorical"},
    "seq_length": [24],
    "inference_batch_size": 64,
}
MODEL: dict[str, Any] = {
    "dim_model": [32],
    "n_head": [2],
    "initial_embedding_dim": [32],
    "joint_embedding_dim": [None],
    "feature_embedding_dims": None,
    "dim_feedforward": [64],
    "num_layers": [1],
    "prediction_length": 1,
    "activation_fn": ["swiglu"],
    "normalization": ["rmsnorm"],
    "positional_encoding": ["rope"],
    "attention_type": ["mha"],
    "norm_first": [True],
    "n_kv_heads": [None],
    "rope_theta": [10000.0],
}
TRAINING: dict[str, Any] = {
    "device": "cpu",
    "epochs": [20],
    "learning_rate": [0.001],
    "scheduler": [{"name": "StepLR", "step_size": 1, "gamma": 0.99}],
    "optimizer": [{"name": "AdamW"}],
    "batch_size": [16],
    "accumulation_steps": [1],
    "criterion": {"item": "CrossEntropyLoss"},
}
#: Two values of everything that may have them, three of what is linked.
LARGE_MODEL: dict[str, Any] = {
    "dim_model": [32, 64, 96],
    "n_head": [2, 4, 6],
    "initial_embedding_dim": [32, 64, 96],
    "joint_embedding_dim": [None, 64, 96],
    "feature_embedding_dims": [{"item": 32}, {"item": 64}, {"item": 96}],
    "num_layers": [1, 2],
    "attention_type": ["mha", "gqa"],
    "n_kv_heads": [None, 2, 3],
    "rope_theta": [10000.0, 500000.0],
}
LARGE_TRAINING: dict[str, Any] = {
    "learning_rate": [0.001, 0.0001],
    "epochs": [10, 20],
    "scheduler": [{"name": "CosineAnnealingLR", "T_max": 10}, {"name": "CosineAnnealingLR", "T_max": 20}],
    "batch_size": [16, 32],
    "optimizer": [{"name": "AdamW"}, {"name": "AdEMAMix"}],
    "dropout": [0.0, 0.1],
}
LARGE_OUTER: dict[str, Any] = {
    "input_columns": [["item"], ["item", "promo"]],
    "column_types": [{"item": "int64"}, {"item": "int64", "promo": "int64"}],
    "seq_length": [24, 48],
}


def old(model: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **outer: Any) -> bytes:
    sections = {
        "model_hyperparameter_sampling": {**MODEL, **(model or {})},
        "training_hyperparameter_sampling": {**TRAINING, **(training or {})},
    }
    whole = {**OUTER, **outer, **sections}
    return yaml.safe_dump({key: value for key, value in whole.items() if value is not ...}).encode()


def imported(*given: Any, **outer: Any) -> Imported:
    return import_sequifier(old(*given, **outer), "old.yaml", "train.py:train")


def told(data: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        import_sequifier(data, "old.yaml", "train.py:train")
    return str(caught.value)


def points(found: Imported) -> list[dict[str, Any]]:
    search = parse_search(found.text.encode(), "search.yaml")
    strategy = make(search.strategy)
    return [strategy.point(search.space, index) for index in range(strategy.count(search.space))]


def product_by_hand() -> set[bytes]:
    """Return every point of the large search, by loops over the lists as the documentation has them."""
    model, training, outer = {**MODEL, **LARGE_MODEL}, {**TRAINING, **LARGE_TRAINING}, LARGE_OUTER
    backbone = (
        "dim_model",
        "n_head",
        "initial_embedding_dim",
        "joint_embedding_dim",
        "feature_embedding_dims",
    )
    schedule = ("learning_rate", "epochs", "scheduler")
    found = set()
    for i, j, k in itertools.product(range(3), range(2), range(2)):
        for layers, attention, heads, theta in itertools.product(
            *(model[key] for key in ("num_layers", "attention_type", "n_kv_heads", "rope_theta"))
        ):
            for batch, optimizer, dropout, length in itertools.product(
                *(training[key] for key in ("batch_size", "optimizer", "dropout")), outer["seq_length"]
            ):
                divides = heads is None or model["n_head"][i] % heads == 0
                point = {
                    **{key: model[key][i] for key in backbone},
                    **{key: training[key][j] for key in schedule},
                    **{key: outer[key][k] for key in ("input_columns", "column_types")},
                    "num_layers": layers,
                    "attention_type": attention,
                    "rope_theta": theta,
                    "n_kv_heads": heads if divides and attention != "mha" else None,
                    "batch_size": batch,
                    "optimizer": optimizer,
                    "dropout": dropout,
                    "seq_length": length,
                }
                found.add(canonical(point))
    return found


def test_grid_is_the_product_with_linked_lists_by_index_and_each_point_once() -> None:
    found = imported(LARGE_MODEL, LARGE_TRAINING, **LARGE_OUTER)
    by_hand = product_by_hand()
    names = set(LARGE_MODEL) | set(LARGE_TRAINING) | set(LARGE_OUTER)
    own = [canonical({key: point[key] for key in names}) for point in points(found)]
    # Backbone and heads: (2: mha, gqa null, gqa 2), (4: the same), (6: and gqa 3) = 10; x 2^8.
    assert found.points == len(own) == len(by_hand) == 10 * 2**8
    assert set(own) == by_hand


def test_linked_list_is_counted_once_where_sequifier_counts_it_twice() -> None:
    model = {
        "dim_model": [32, 64], "n_head": [2, 4], "initial_embedding_dim": [32, 64],
        "joint_embedding_dim": [32, 64], "num_layers": [1, 2], "positional_encoding": ["learned", "rope"],
    }  # fmt: skip
    found = imported(model)
    assert (found.points, len(points(found))) == (8, 8)
    assert any("sequifier counts 16 combinations, the grid has 8" in note for note in found.notes)


def test_example_of_the_documentation_never_pairs_64_with_8_heads() -> None:
    model = {
        "dim_model": [64, 128], "n_head": [4, 8], "initial_embedding_dim": [64, 128],
        "joint_embedding_dim": [None, None],
    }  # fmt: skip
    assert [(point["dim_model"], point["n_head"]) for point in points(imported(model))] == [(64, 4), (128, 8)]


def test_multi_head_attention_has_no_heads_of_keys_instead_of_an_error() -> None:
    found = points(imported({"attention_type": ["mha", "gqa"], "n_kv_heads": [2]}))
    assert [(point["attention_type"], point["n_kv_heads"]) for point in found] == [("mha", None), ("gqa", 2)]
    assert points(imported({"n_kv_heads": [2, 1]}))[0]["n_kv_heads"] is None


def test_lists_of_one_are_fixed_and_single_values_go_along() -> None:
    search = parse_search(imported().text.encode(), "search.yaml")
    assert (search.space.dimensions, search.space.linked) == ({}, ())
    fixed = search.space.fixed
    assert (fixed["dim_model"], fixed["input_columns"], fixed["device"]) == (32, ["item"], "cpu")
    assert fixed["feature_embedding_dims"] is None
    # What sequifier's models say where the file has nothing.
    assert fixed["dropout"] == 0.0
    assert not {"hp_search_name", "n_samples", "model_config_write_path"} & set(fixed)


def test_rest_of_the_search_is_as_sequifier_runs_it() -> None:
    search = parse_search(imported().text.encode(), "search.yaml")
    assert (search.name, search.seeds, search.expect_points) == ("my-search", (101,), 1)
    assert (search.metric.name, search.metric.goal) == ("val_loss", "min")
    assert isinstance(search.retry.oom, OomRetry)
    assert (search.retry.oom.halve, search.retry.oom.times, search.retry.oom.ladder) == (
        "batch_size",
        3,
        "plain",
    )


@pytest.mark.parametrize(
    ("samples", "strategy"),
    [
        (3, StrategySpec("random", {"points": 3, "seed": 0})),
        (4, StrategySpec("grid")),
        (9, StrategySpec("grid")),
    ],
)
def test_samples_are_distinct_random_points_or_all_there_are(samples: int, strategy: StrategySpec) -> None:
    training = {"batch_size": [16, 32], "dropout": [0.0, 0.1]}
    found = imported(None, training, search_strategy="sample", n_samples=samples)
    assert parse_search(found.text.encode(), "search.yaml").strategy == strategy
    assert len({canonical(point) for point in points(found)}) == min(samples, 4)


def test_value_that_stands_twice_is_tried_once_and_told() -> None:
    found = imported(None, {"batch_size": [16, 32, 16]})
    assert found.points == 2
    assert "batch_size: 16 stands there twice and is tried once" in found.notes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (old({"n_head": [2, 4]}), ["n_head: is linked with dim_model", "dim_model: 1, n_head: 2"]),
        (old({"joint_embedding_dim": [1, 2]}), ["dim_model: 1, joint_embedding_dim: 2"]),
        (old(None, {"scheduler": [{}, {}]}), ["learning_rate: 1, scheduler: 2"]),
        (old(column_types=[{}, {}]), ["input_columns: 1, column_types: 2"]),
        (old(input_columns=[["a"], ["b"]]), ["input_columns: 2, column_types: 1 (of the metadata)"]),
        (old({"norm_frist": [True]}), ["unknown key 'norm_frist'; did you mean 'norm_first'?"]),
        (old(None, {"lr": [1]}), ["training_hyperparameter_sampling.lr: unknown key 'lr'"]),
        (old(seq_lenght=[1]), ["unknown key 'seq_lenght'; did you mean 'seq_length'?"]),
        (old(seq_length=...), ["seq_length: the list 'seq_length' is missing"]),
        (old(hp_search_name=...), ["the key 'hp_search_name' is missing"]),
        (old({"num_layers": 2}), ["num_layers: is not a list"]),
        (old({"num_layers": []}), ["num_layers: is empty"]),
        (old(search_strategy="sampel"), ["search_strategy: is not known", "did you mean 'sample'?"]),
        (old(search_strategy=...), ["the strategy sample needs n_samples"]),
        (old(n_samples=0, search_strategy="sample"), ["n_samples: is out of range"]),
        (b"a: 1\n", ["'model_hyperparameter_sampling' is missing", "unknown key 'a'"]),
    ],
)
def test_what_is_wrong_is_told_all_at_once(data: bytes, words: list[str]) -> None:
    message = told(data)
    for word in words:
        assert word in message
