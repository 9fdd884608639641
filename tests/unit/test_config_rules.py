"""The space of a search file with rules: what is understood, and what is refused and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_search.config import dump_search, load_search, parse_search, rule_lines
from hpc_search.errors import ConfigError
from hpc_search.planning.spaces import space_lines
from hpc_search.records.search import Search
from hpc_search.space import Choice, Int, LogUniform, Normal, Prior, Quantized, Space, Uniform

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\nstrategy: {random: {points: 2}}\n"
GRID = HEAD.replace("{random: {points: 2}}", "grid")
AB = "space: {a: [1, 2], b: [3, 4]}\n"

KINDS = """\
space:
  warmup: {quantized: [0, 0.2, 0.05]}
  noise: {normal: [0, 1]}
  width: {int: [16, 256, 16]}
  optimizer: {choice: [adamw, sgd], weights: [3, 1]}
  dropout: {uniform: [0, 0.5], prior: {at: 0.1, sd: 0.1}}
  rate: {log_uniform: [1e-5, 1e-2], prior: {at: 1e-3, sd: 3}}
  head:
    layers: {int: [1, 4]}
    norm: {kind: [rms, layer]}
"""
MODELS = """\
space:
  model:
    subspaces:
      cnn: {kernel: [3, 5]}
      vit-b: {patch: [8, 16], pool: {subspaces: {cls: , mean: {eps: [0.1, 0.2]}}}}
      linear:
"""
EXAMPLE = """\
space:
  n_head: [4, 6, 8]
  n_kv_heads: [null, 1, 2, 3, 4]
  layers: {int: [1, 4]}
normalise:
  n_kv_heads: {unless: "n_head % n_kv_heads == 0", to: null}
constraints:
  - layers * n_head <= 24
"""


def read(text: str) -> Search:
    return parse_search(text.encode(), "s.yaml")


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


# -- what is understood
def test_every_kind_of_dimension_is_read() -> None:
    assert read(HEAD + KINDS).space.dimensions == {
        "warmup": Quantized(0, 0.2, 0.05),
        "noise": Normal(0, 1),
        "width": Int(16, 256, 16),
        "optimizer": Choice(("adamw", "sgd"), (3, 1)),
        "dropout": Uniform(0, 0.5, Prior(0.1, 0.1)),
        "rate": LogUniform(1e-5, 1e-2, Prior(1e-3, 3)),
        "head.layers": Int(1, 4),
        "head.norm.kind": Choice(("rms", "layer")),
    }


def test_sub_spaces_are_a_parameter_and_what_each_of_them_has() -> None:
    space = read(GRID + MODELS).space
    assert space.names == (
        "model",
        "model.cnn.kernel",
        "model.vit-b.patch",
        "model.vit-b.pool",
        "model.vit-b.pool.mean.eps",
    )
    assert space.size() == 2 + 2 * (1 + 2) + 1
    found = [space.point(index) for index in range(9)]
    assert {"model": "linear"} in found
    assert {"model": "vit-b", "model.vit-b.patch": 8, "model.vit-b.pool": "cls"} in found


def test_a_condition_of_a_group_holds_for_all_in_it_and_adds_to_those_of_sub_spaces() -> None:
    text = MODELS + "  other: [1, 2]\n  head: {x: [1, 2], y: {z: [1, 2]}}\n"
    text += "when: {head: other == 1, model.cnn.kernel: other == 2}\n"
    space = read(GRID + text).space
    points = [space.point(index) for index in range(space.size() or 0)]
    assert all(("head.x" in point) == ("head.y.z" in point) == (point["other"] == 1) for point in points)
    kernels = [point for point in points if "model.cnn.kernel" in point]
    assert all((point["model"], point["other"]) == ("cnn", 2) for point in kernels)
    assert len(kernels) == 2


@pytest.mark.parametrize(
    "text",
    [
        KINDS,
        MODELS,
        EXAMPLE,
        KINDS + 'derived: {head: {ffn: "4 * width"}}\n',
        "space: {model: {subspaces: {a.b-c: {d: {subspaces: {e: {f: [1, 2]}}}}}}}\n",
        MODELS + "constraints: [model != 'cnn' and `model.vit-b.pool` != 'mean']\n",
    ],
)
def test_a_space_reads_back_equal(text: str) -> None:
    search = read(HEAD + text)
    assert read(dump_search(search)) == search


def test_a_name_that_is_nearly_a_kind_is_a_group_where_no_numbers_follow() -> None:
    assert read(GRID + "space: {head: {init: [xavier, zero]}}").space.names == ("head.init",)


def test_an_exact_count_is_asked_for_after_the_rules() -> None:
    assert read(f"{GRID}{EXAMPLE}expect_points: 44\n").expect_points == 44
    message = told(f"{GRID}{EXAMPLE}expect_points: 60\n")
    assert "s.yaml:13: expect_points: the search has 44 points, not 60" in message


# -- what is refused
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("space: {a: {log_unifrom: [1, 2]}}", "did you mean 'log_uniform'?"),
        ("space: {a: {quantized: [0, 1, 0.3]}}", "write [0.0, 0.9, 0.3], or another step"),
        ("space: {a: {int: [1, 10, 4]}}", "the step does not divide the range"),
        ("space: {a: {int: [1, 10, 0]}}", "space.a.int[2]: a step is not above 0"),
        ("space: {a: {int: [4, 1]}}", "exchange them"),
        ("space: {a: {log_int: [1, 10, 3]}}", "is not two numbers"),
        ("space: {a: {log_uniform: [0, 1]}}", "is not above 0"),
        ("space: {a: {normal: [0, 0]}}", "space.a.normal[1]: the sd is not above 0"),
        ("space: {a: {normal: [0, 1], prior: {at: 0, sd: 1}}}", "does not belong to 'normal'"),
        ("space: {a: {uniform: [0, 1], prior: {at: 2, sd: 1}}}", "space.a.prior.at: lies outside the range"),
        ("space: {a: {log_uniform: [1, 9], prior: {at: 2, sd: 1}}}", "a factor above 1"),
        ("space: {a: {uniform: [0, 1], prior: {at: 1}}}", "the key 'sd' is missing"),
        ("space: {a: {choice: [1, 2], weights: [1]}}", "1 weights"),
        ("space: {a: {choice: [1, 2], weights: [1, -1]}}", "space.a.weights[1]: a weight is not above 0"),
        ("space: {a: {uniform: [0, 1], weights: [1]}}", "does not belong to 'uniform'"),
        ("space: {a: {int: [0, 1], uniform: [0, 1]}}", "a range has one kind"),
        ("space: {a: {subspaces: {}}}", "has no sub-space"),
        ("space: {a: {subspaces: {x: }, weights: [1]}}", "does not belong to sub-spaces"),
        ("space: {a: {b: 3}}", "space.a.b: is neither a list nor a range"),
        ("space: {a: {b: [1]}, a.b: [2]}", "the parameter 'a.b' is also on line"),
        ("space: {a.: [1]}", "space['a.']: a parameter has no usable name"),
        ("space: {a: {b: [1]}}\nfixed: {a: {c: 2}}", "'a' is a group, which has a.b"),
        (AB + "when: {c: a == 1}", "when.c: unknown parameter 'c'"),
        (AB + "when: {b: aa == 1}", "when.b: unknown parameter 'aa'; did you mean 'a'?"),
        (AB + "when: {b: a == 7}", "the condition never holds"),
        (AB + "when: {b: a < 7}", "the condition always holds"),
        (AB + "when: {b: a == 1, a: b == 3}", "the rules go round in a circle: 'b' needs 'a' needs 'b'"),
        (AB + "fixed: {f: 1}\nwhen: {f: a == 1}", "'f' is fixed"),
        (AB + "fixed: {f: 1}\nconstraints: [f > 0]", "concerns nothing that is searched"),
        (AB + "constraints: [a > b]", "excludes everything: no point is left of all 4 combinations"),
        (AB + "constraints: [a > 1, a < 2]", "; with constraints[0]"),
        (AB + "constraints: ['max(a, b) > 1']", "a call is not allowed in an expression: 'max(a, b)'"),
        (AB + "constraints: ['a.real > 1']", "unknown parameter 'a.real'"),
        (AB + "constraints: ['(lambda: a)']", "a lambda is not allowed"),
        (AB + "constraints: ['9**9**9 > a']", "a number is too large"),
        (AB + "constraints: ['a = 3']", "two sides are compared by =="),
        (AB + "constraints: ['" + "-" * 60 + "a > 1']", "nested deeper than 40 levels"),
        (AB + "constraints: ['" + "a + " * 900 + "a > 1']", "at most 2,000 are allowed"),
        (AB + "constraints: [a % (b - 3) == 0]", "division by zero, for a 1, b 3"),
        (AB + "constraints: [true]", 'write it in quotes: "true"'),
        (AB + "constraints: a > 1", "is not a list"),
        (AB + "derived: {c: d, d: c}", "round in a circle"),
        (AB + "derived: {c: c + 1}", "'c' depends on itself"),
        (AB + "derived: {a: b}", "the name 'a' is taken: it also stands under `space`"),
        (AB + "derived: {c: b / (a - 1)}", "derived.c: division by zero, for b 3, a 1"),
        (AB + "derived: {c: a + 'x'}", "cannot be computed with, for a"),
        (AB + "normalise: {b: {unless: a == 1}}", "the key 'to' is missing"),
        (AB + "normalise: {b: {to: 3}}", "needs one of `if` and `unless`"),
        (AB + "normalise: {b: {if: a == 1, unless: a == 2, to: 3}}", "needs one of `if` and `unless`"),
        (AB + "normalise: {b: [{if: b == 3, to: 4}, {if: b == 4, to: 3}]}", "round in a circle"),
        (AB + "strategy2: 1\nnormalize: {}", "did you mean 'normalise'?"),
        ("linked: [{a: [1, 2], b: [1]}]", "'a': 2, 'b': 1"),
    ],
)
def test_a_wrong_space_is_refused_with_what_is_wrong(text: str, words: str) -> None:
    assert words in told(HEAD + text)


def test_all_that_is_wrong_is_told_at_once_with_its_line() -> None:
    text = AB + "when:\n  b: a ==\nconstraints:\n  - f(a)\n  - c > 1\nderived:\n  a: 1\n  b: a + 1\n"
    message = told(HEAD + text)
    places = ("7: when.b", "9: constraints[0]", "10: constraints[1]", "12: derived.a", "13: derived.b")
    assert all(f"s.yaml:{place}" in message for place in places)


def test_a_grid_of_too_many_joined_combinations_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc_search.space import components, walk

    for module in (components, walk):
        monkeypatch.setattr(module, "MOST_ROWS", 100)
    text = "space: {a: {int: [1, 50]}, b: {int: [1, 50]}, c: [1, 2]}\nconstraints: [a != b]\n"
    assert "a grid cannot list what the rules join: 'a' and 'b'" in told(GRID + text)
    assert read(HEAD + text).space.size() is None


def test_more_samples_than_distinct_points_are_refused_with_the_true_number() -> None:
    message = told(HEAD.replace("points: 2", "points: 60") + EXAMPLE)
    assert "60 points cannot be drawn without replacement from 44" in message


def test_a_condition_that_no_draw_meets_is_refused_with_what_was_tried() -> None:
    text = "space: {a: {uniform: [0, 1]}, b: [1, 2]}\nwhen: {b: a > 2}\n"
    assert "the condition never holds, as far as 1,000 draws show" in told(HEAD + text)


def test_a_constraint_that_no_draw_satisfies_is_refused() -> None:
    text = "space: {a: {uniform: [0, 1]}, b: [1, 2]}\nconstraints: [a > b]\n"
    assert "no point is left of 1,000 draws" in told(HEAD + text)
    # What stands in no table was drawn, too: nothing is known of all combinations.
    text = "space: {a: {int: [1, 2000]}, b: {int: [1, 2000]}}\nconstraints: [a + b == 2]\n"
    assert "no point is left of 1,000 draws" in told(HEAD + text)
    text = "space: {a: [1, 2], b: {uniform: [0, 1]}, c: [1, 2]}\nconstraints: [a > 2]\n"
    assert "no point is left of all 2 combinations" in told(HEAD + text)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ("{a: 3}", "with these values the constraints exclude everything"),
        ("{b: 0}", "with these values derived.c has no value: division by zero, for a 1, b 0"),
    ],
)
def test_what_a_stage_fixes_has_to_leave_points(fixed: str, words: str) -> None:
    text = AB + "constraints: [a < 3]\nderived: {c: a / b}\nstages:\n"
    text += "  - {name: one, strategy: {random: {points: 2}}}\n"
    message = told(HEAD + text + f"  - {{name: two, strategy: {{random: {{points: 2}}}}, fixed: {fixed}}}\n")
    assert f"s.yaml:10: stages[1].fixed: {words}" in message


# -- what the plan says
def test_the_plan_lists_what_became_equal_and_what_was_excluded_with_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GRID + EXAMPLE)
    search = load_search(path)
    lines = rule_lines(path, search)[""]
    assert lines == {"normalise.n_kv_heads": 10, "normalise.n_kv_heads[0]": 10, "constraints[0]": 12}
    text = "\n".join(space_lines(search.space, lines))
    assert "    44 of 60 combinations" in text
    assert "normalise.n_kv_heads (line 10): " in text
    assert "n_head 4, n_kv_heads 3 -> null" in text
    assert "constraints[0] (line 12): 5 excluded" in text
    assert "layers 4, n_head 8" in text


def test_the_plan_shows_eight_examples_and_the_number_of_the_rest() -> None:
    space = read(GRID + "space: {a: {int: [1, 9]}, b: {int: [1, 9]}}\nconstraints: [a <= b]\n").space
    text = space_lines(space)
    assert len([line for line in text if line.startswith("        a ")]) == 8
    assert "... and 28 more" in text[-1]


def test_the_plan_says_which_rules_do_nothing() -> None:
    text = AB + "constraints: [a + b < 9]\nnormalise: {a: {if: b == 9, to: 1}}\n"
    lines = space_lines(read(GRID + text).space, {"constraints[0]": 6})
    assert "      constraints[0] (line 6): excludes nothing" in lines
    assert "      normalise.a: changes nothing" in lines


def test_the_plan_says_how_many_draws_a_constraint_lets_through() -> None:
    space = read(HEAD + "space: {a: {uniform: [0, 1]}, b: {uniform: [0, 1]}}\nconstraints: [a < b]\n").space
    text = "\n".join(space_lines(space))
    assert "of 1,000 draws tried are points (5" in text or "of 1,000 draws tried are points (4" in text


def test_rules_of_several_searches_have_their_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    text = (
        "name: x\ntrial: t.py:f\nmetric: {name: a, goal: max}\nstrategy: grid\n"
        + AB
        + "constraints: [a + b < 6]\n"
    )
    path.write_text(text + "searches:\n  one:\n    derived: {c: a + b}\n  two:\n    constraints: [b > 3]\n")
    search = load_search(path)
    assert rule_lines(path, search) == {
        "one": {"constraints[0]": 6, "derived.c": 9},
        "two": {"constraints[0]": 11},
    }
    assert [part.space.size() for part in search.parts] == [3, 2]


def test_the_count_of_the_dna_search_is_the_true_one() -> None:
    text = "space: {" + ", ".join(f"a{i}: [1, 2, 3, 4, 5]" for i in range(2))
    text += ", " + ", ".join(f"b{i}: [1, 2, 3]" for i in range(7)) + "}\nconstraints: [a0 + a1 < 11]\n"
    assert read(f"{GRID}{text}expect_points: 54675\n").space.size() == 54_675
    assert "25 x 3^7 = 54,675" in told(f"{GRID}{text}expect_points: 30375\n")


def test_a_space_without_rules_reads_as_it_always_did() -> None:
    space = read(GRID + AB).space
    assert space == Space({"a": Choice((1, 2)), "b": Choice((3, 4))})
    assert space.ruled is None
