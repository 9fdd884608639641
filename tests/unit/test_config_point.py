"""One trial as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc_search.config import dump_point, load_point
from hpc_search.config.point import parse_point
from hpc_search.errors import ConfigError


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"lr": 1e-3, "n": 3, "a b": None, "list": [1, {"x": "yes"}], "text": "1e-3"},
        {"null": True, "1": -0.5},
    ],
)
@pytest.mark.parametrize(("fold", "seed", "search"), [(None, 0, ""), (3, 7, "my 'search'")])
def test_a_dumped_point_reads_back_equal(
    parameters: dict[str, Any], fold: int | None, seed: int, search: str
) -> None:
    text = dump_point(parameters, fold=fold, seed=seed, search=search)
    expected = {"parameters": parameters, "fold": fold, "seed": seed, "search": search}
    assert parse_point(text.encode(), "p.yaml") == expected


def test_parameters_alone_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("parameters: {lr: 1e-3}\n")
    assert load_point(path) == {"parameters": {"lr": 0.001}, "fold": None, "seed": 0, "search": ""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fold: 0", "the key 'parameters' is missing"),
        ("parameters: [1]", "is not a mapping"),
        ("parameters: {a: .nan}", "parameters.a: is not finite"),
        ("parameters: {a: 1}\nfold: -1", "0 or more"),
        ("parameter: {a: 1}", "did you mean 'parameters'?"),
    ],
)
def test_a_wrong_point_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_point(text.encode(), "p.yaml")
    assert words in str(caught.value)
