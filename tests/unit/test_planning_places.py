"""What is wrong with the data and their split is told with the place in the search file that it is of."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from hpc_search import config, planning
from hpc_search.errors import ConfigError, UsageError, about
from hpc_search.layout import Layout
from hpc_search.planning.sides import overlap_words
from hpc_search.records.splits import Overlap
from hpc_search.splits import parse_manifest

HEAD = """\
name: x
trial: train.py:train
metric: {name: acc, goal: max}
space: {lr: [1, 2]}
strategy: grid
"""
DATA = """\
data:
  index: data.csv
  id: s
  label: y
  group: p
  time: t
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a directory with 20 samples of 10 patients."""
    (tmp_path / "train.py").write_text("def train(trial): pass\ndef evaluate(trial): pass\n")
    rows = [f"s{one},{one % 2},p{one // 2},{one}\n" for one in range(20)]
    (tmp_path / "data.csv").write_text("s,y,p,t\n" + "".join(rows))
    return tmp_path


def draft(base: Path, text: str) -> planning.Draft:
    (base / "search.yaml").write_text(HEAD + text)
    return planning.draft(base / "search.yaml")


def refused(base: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        draft(base, text)
    assert all(problem.file == str(base / "search.yaml") for problem in caught.value.problems)
    return caught.value


def change(base: Path, old: str, new: str) -> None:
    text = (base / "data.csv").read_text()
    assert old in text
    (base / "data.csv").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        (f"{DATA}folds:\n  repeats: 2\n  grouped: 11\n", 14, "folds.grouped", "there are 10"),
        (f"{DATA}folds:\n  grouped: 3\n  test_share: 0.99\n", 14, "folds.test_share", "none of 10 is left"),
        (f"{DATA}folds:\n  time: 30\n", 13, "folds.time", "30 folds over time need"),
        (f"{DATA}folds:\n  nested: {{outer: 9, inner: {{kfold: 40}}}}\n", 13, "folds.nested", "outer fold 0"),
        (f"{DATA}folds:\n  file: none.json\n", 13, "folds.file", "No such file"),
        (f"{DATA}folds:\n  splitter: 'no.py:FOLDS'\n", 13, "folds.splitter", "the module 'no'"),
        (f"{DATA.replace('label: y', 'label: z')}folds: {{kfold: 2}}\n", 7, "data", "no column 'z'"),
        (f"{DATA.replace('data.csv', 'no.csv')}folds: {{kfold: 2}}\n", 7, "data.index", "No such file"),
        (f"{DATA}  path: s\nfolds: {{kfold: 2}}\n", 12, "data.path", "20 are missing"),
    ],
)
def test_each_problem_of_the_split_has_file_line_and_field(
    base: Path, text: str, line: int, path: str, message: str
) -> None:
    (problem,) = refused(base, text).problems
    assert (problem.line, problem.path) == (line, path)
    assert message in problem.message


def test_what_only_the_folds_tell_has_the_place_of_its_own_key(base: Path) -> None:
    (base / "own.py").write_text(
        "def few(table): return [(range(10 - n), range(10, 20)) for n in range(3)]\n"
    )
    text = f"{DATA}folds:\n  splitter: own.py:few\nracing: {{folds: 3}}\n"
    text += "test: train.py:evaluate\nmax_trials: 2\n"
    found = refused(base, text).problems
    assert [(one.line, one.path) for one in found] == [(16, "max_trials"), (14, "racing"), (15, "test")]


def test_every_problem_of_the_table_is_one_of_its_own(base: Path) -> None:
    change(base, "s3,1,p1,3\n", "s2,1,p1,3\ns5,1,p1\n")
    (problem,) = refused(base, f"{DATA}folds: {{kfold: 2}}\n").problems
    assert f"{base / 'data.csv'}:6: the row does not have 4 fields, but 3" in problem.message
    change(base, "s5,1,p1\n", "s5,1,p1,9\n")
    found = refused(base, f"{DATA}folds: {{kfold: 2}}\n")
    assert len(found.problems) == 2
    assert "the id 's2' twice: lines 4 and 5" in str(found)
    assert "the id 's5' twice: lines 6 and 8" in str(found)


def test_missing_values_of_every_column_are_told_at_once_by_lines(base: Path) -> None:
    change(base, "s3,1,p1,3", "s3,,p1,3")
    change(base, "s4,0,p2,4", "s4,0,,4")
    change(base, "s8,0,p4,8", "s8,0,NaN,")
    found = refused(base, f"{DATA}folds: {{stratified_grouped: 2}}\n")
    assert "line 5 of" in found.problems[0].message
    assert "(id 's3') has no label" in found.problems[0].message
    assert "(id 's4') has no group, nor has line 10" in found.problems[1].message
    assert len(found.problems) == 2


def test_problems_of_a_folds_file_are_told_all_at_once(base: Path) -> None:
    folds = {
        "1": {"train": ["s0", "s1", "none"], "val": []},
        "2": {"train": ["s0", "s4", "s4"], "val": ["s4", "s1"], "tset": ["s9"]},
    }
    (base / "folds.json").write_text(json.dumps({"folds": folds}))
    found = refused(base, f"{DATA}folds:\n  file: folds.json\n")
    assert [one.message.removeprefix("folds.json: ") for one in found.problems] == [
        "fold 1: val is empty",
        "fold 2: unknown sides tset; expected train, val and test",
        "fold 1: train names what is not in the data (by id): none",
        "fold 2: train names s4 twice",
        "fold 2: train and val both have s4",
        "fold 2: train and val share 2 groups, for example 'p0'",
    ]
    assert {(one.line, one.path) for one in found.problems} == {(13, "folds.file")}


def test_places_of_several_searches_are_those_of_each(base: Path) -> None:
    (base / "own.py").write_text(
        "def few(table): return [(range(10 - n), range(10, 20)) for n in range(3)]\n"
    )
    one = "trial: train.py:train, metric: {name: acc, goal: max}, space: {lr: [1]}, strategy: grid"
    text = f"name: x\nsearches:\n  a: {{{one}}}\n  b: {{{one}, racing: {{folds: 4}}}}\n"
    (base / "search.yaml").write_text(f"{text}{DATA}folds: {{splitter: 'own.py:few'}}\n")
    with pytest.raises(ConfigError) as caught:
        planning.draft(base / "search.yaml")
    assert [(found.line, found.path) for found in caught.value.problems] == [(4, "searches.b.racing")]


def test_a_key_that_is_known_already_stays_and_survives_another_process() -> None:
    with pytest.raises(UsageError) as caught, about("data"), about("data.index"):
        raise UsageError("it is not there", hint="look")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) == "data.index: it is not there\n  next: look"


def test_a_search_file_that_is_gone_leaves_the_key_as_the_place(tmp_path: Path) -> None:
    found = config.placed(tmp_path / "gone.yaml", UsageError("wrong", key="folds.kfold"))
    assert "gone.yaml: folds.kfold: wrong" in str(found)


# -- data that changed
def test_the_same_rows_in_another_order_are_named_with_the_first_that_differs(base: Path) -> None:
    text = f"{DATA}folds: {{grouped: 3}}\n"
    layout = Layout(base / "run")
    planning.build(draft(base, text), layout)
    change(base, "s4,0,p2,4\ns5,1,p2,5\n", "s5,1,p2,5\ns4,0,p2,4\n")
    with pytest.raises(
        UsageError, match="the same rows in another order: the first is s5, now row 4"
    ) as error:
        planning.build(draft(base, text), layout)
    assert "which came after s4" in str(error.value)


def test_rows_of_two_sides_that_changed_places_are_another_order(base: Path) -> None:
    text = f"{DATA}folds: {{hash: [0.5, 0.25, 0.25]}}\n"
    layout = Layout(base / "run")
    made = draft(base, text)
    planning.build(made, layout)
    (fold,) = made.splits.folds
    whose = {
        name: side
        for side, path in fold.sides.items()
        for name in parse_manifest(made.splits.files[path].decode(), "str")
    }
    rows = (base / "data.csv").read_text().splitlines()
    at = next(place for place in range(1, 20) if whose[f"s{place - 1}"] != whose[f"s{place}"])
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    (base / "data.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UsageError, match=r"the same rows in another order, .* each side has the rows"):
        planning.build(draft(base, text), layout)


def test_overlaps_of_one_column_stand_together_in_the_plan() -> None:
    found = [
        Overlap(fold=0, column="tissue", sides=("val", "test"), count=1, examples=("a",)),
        Overlap(fold=0, column="organ", sides=("train", "val"), count=1, examples=("b",)),
        Overlap(fold=1, column="tissue", sides=("train", "val"), count=2, examples=("c",)),
        Overlap(fold=1, column="organ", sides=("train", "test"), count=1, examples=("d",)),
    ]
    heads = [text.partition(", in")[0] for text in overlap_words(found, 2)]
    assert heads == [
        "tissue: 2 values on both train and val",
        "tissue: 1 value on both val and test",
        "organ: 1 value on both train and val",
        "organ: 1 value on both train and test",
    ]
