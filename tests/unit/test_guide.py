"""The guides are true: each block of a search file in them is read, on top of a small search."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

import hpc_search
from hpc_search.config import load_search, parse_search

GUIDES: Final = ("search-language.md", "cross-validation.md")
BLOCKS: Final = [
    block
    for name in GUIDES
    for block in re.findall(
        r"```yaml\n(.*?)```",
        (Path(hpc_search.__file__).parent / "docs" / name).read_text(),
        flags=re.DOTALL,
    )
]
#: What a block is put on top of, and keys of which any one takes a line's place.
BASE: Final = {
    "name: guide": (),
    "trial: train.py:train": (),
    "metric: {name: acc, goal: max}": ("metric", "objectives"),
    "space: {lr: {log_uniform: [1e-5, 1e-2]}}": ("space", "catalog"),
    "strategy: {random: {points: 5}}": ("strategy", "stages"),
}


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0][:30] for block in BLOCKS])
def test_every_block_of_the_guide_is_read(block: str) -> None:
    keys = re.findall(r"^(\w+):", block, flags=re.MULTILINE)
    base = [line for line, others in BASE.items() if not set(others) & set(keys)]
    parse_search(("\n".join(base) + "\n" + block).encode(), "search.yaml")


@pytest.mark.parametrize("path", sorted((Path(hpc_search.__file__).parents[1] / "configs").glob("*.yaml")))
def test_every_configuration_that_comes_along_is_read(path: Path) -> None:
    search = load_search(path)
    assert search.expect_points is not None
