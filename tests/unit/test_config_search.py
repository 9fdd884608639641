"""The search file: what is understood, filled in and refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpc_search.config import dump_search, load_search, parse_search
from hpc_search.config.search import LATER_KEYS
from hpc_search.errors import ConfigError, UsageError
from hpc_search.records.search import FoldsSpec, OomRetry, Search, StrategySpec
from hpc_search.space import Choice, Int, LogInt, LogUniform, Rules, Uniform

HEAD = "name: x\ntrial: train.py:train\nmetric: {name: acc, goal: max}\n"
GRID = HEAD + "strategy: grid\n"

DESIGN = """\
name: example
trial: train.py:train
metric: {name: val_acc, goal: max}
space:
  learning_rate: {log_uniform: [1e-5, 1e-2]}     # or a list: [1e-4, 1e-3]
  layers: {int: [1, 4]}
  optimizer: [adamw, sgd]
  momentum: [0.0, 0.9]
linked:
  - {dim_model: [64, 128], n_head: [4, 8]}
when: {momentum: "optimizer == 'sgd'"}
constraints: ["layers * dim_model <= 256"]
derived: {ffn: "4 * dim_model"}
fixed: {epochs: 10}
strategy: {random: {points: 200, seed: 0}}       # grid needs finite dimensions
data: {index: data.csv, id: sample, label: y, group: patient}   # or module:function that gives such a table
folds: {stratified: 5}                           # shuffled by the plan's split seed, which cannot be searched
seeds: [0, 1]
threads: 1
retry: {oom: {halve: batch_size, times: 3}, error: 1}
"""


def read(text: str) -> Search:
    return parse_search(text.encode(), "s.yaml")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value


def told(text: str) -> str:
    return str(refused(text))


def test_the_example_of_the_design_is_understood() -> None:
    search = read(DESIGN)
    assert search.space.dimensions == {
        "learning_rate": LogUniform(1e-5, 1e-2),
        "layers": Int(1, 4),
        "optimizer": Choice(("adamw", "sgd")),
        "momentum": Choice((0.0, 0.9)),
    }
    assert search.space.linked == ({"dim_model": (64, 128), "n_head": (4, 8)},)
    assert search.space.fixed == {"epochs": 10}
    assert search.space.rules == Rules(
        when={"momentum": "optimizer == 'sgd'"},
        constraints=("layers * dim_model <= 256",),
        derived={"ffn": "4 * dim_model"},
    )
    assert search.strategy == StrategySpec(kind="random", options={"points": 200, "seed": 0})
    assert search.folds == FoldsSpec(kind="stratified", n=5)
    assert search.retry.error == 1
    assert search.retry.oom == OomRetry(halve="batch_size", times=3)
    assert search.seeds == (0, 1)


def test_defaults_are_those_of_the_record() -> None:
    search = read(GRID)
    assert (search.threads, search.max_trials, search.heartbeat, search.lease) == (1, 100_000, 60.0, 900.0)
    assert search.space.size() == 1


@pytest.mark.parametrize("strategy", ["grid", "{grid: {}}", "{grid: }"])
def test_the_grid_is_written_in_any_form(strategy: str) -> None:
    assert read(f"{HEAD}strategy: {strategy}\n").strategy == StrategySpec(kind="grid")


def test_a_list_holds_any_value() -> None:
    dimension = read(f"{GRID}space: {{a: [null, 1, '1', true, [1, 2], {{b: null}}]}}").space.dimensions["a"]
    assert dimension == Choice((None, 1, "1", True, [1, 2], {"b": None}))


def test_ranges_keep_their_kinds() -> None:
    text = "strategy: {random: {points: 5}}\nspace: {a: {uniform: [0, 1]}, b: {log_int: [1, 0x10]}}"
    dimensions = read(HEAD + text).space.dimensions
    assert dimensions == {"a": Uniform(0.0, 1.0), "b": LogInt(1, 16)}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5 min", 300), ("1h", 3600), ("90", 90), ("1.5 minutes", 90), ("2 Days", 172800)],
)
def test_times_are_numbers_of_seconds_or_have_a_unit(text: str, seconds: float) -> None:
    assert read(f"{GRID}save_interval: {text}\n").save_interval == seconds


def test_an_index_that_names_a_function_is_one() -> None:
    data = read(f"{GRID}data: {{index: 'tables/make.py:table', id: s}}").data
    assert data is not None
    assert (data.index, data.function) == ("", "tables/make.py:table")


def test_a_command_is_a_list_with_placeholders() -> None:
    text = "name: x\nmetric_file: out.json\n"
    text += "command: [python, t.py, '--lr={lr}', '{{{seed}}}', '{checkpoint_dir}']\n"
    search = read(f"{text}metric: {{name: a, goal: min}}\nspace: {{lr: [1]}}\nstrategy: grid\n")
    assert search.trial.command == ("python", "t.py", "--lr={lr}", "{{{seed}}}", "{checkpoint_dir}")
    assert search.trial.metric_file == "out.json"


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        "nam: x\ntrial: a b\nmetric: {name: a, goal: up}\nspace: {a: [], b: 3}\nstrategy: gird\nseeds: [-1]\n"
    )
    problems = refused(text).problems
    paths = ["name", "nam", "trial", "metric.goal", "space.a", "space.b", "strategy", "seeds[0]"]
    assert sorted(problem.path for problem in problems) == sorted(paths)
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert {problem.file for problem in problems} == {"s.yaml"}


@pytest.mark.parametrize("key", LATER_KEYS)
def test_keys_of_later_versions_are_named_as_such(key: str) -> None:
    assert f"this version of hpc_search does not have {key!r} yet" in told(f"{GRID}{key}: 1\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thread: 1", "unknown key 'thread'; did you mean 'threads'?"),
        ("retry: {oom: {halv: a}}", "retry.oom.halv: unknown key 'halv'; did you mean 'halve'?"),
        ("threads: two", "threads: is not an integer"),
        ("threads: 1.0", "write 1"),
        ("threads: '1'", "write the number without quotes"),
        ("threads: true", "is not an integer"),
        ("threads: 0", "1 and 65,536"),
        ("max_trials: 1_000", "remove _ and , from the number"),
        ("keep_checkpoints: yes", "write true"),
        ("expect_points: 99999999999999999999", "is out of range"),
        ("heartbeat: 0", "is not a length of time"),
        ("heartbeat: .inf", "is not finite"),
        ("stall: 3 fortnights", "is not a length of time"),
        ("save_interval: -5s", "is not a length of time"),
        ("heartbeat: 60\nlease: 100", "shorter than 5 heartbeats"),
        ("heartbeat: 200", "lease of 1000 s or more"),
        ("seeds: []", "needs at least one value"),
        ("seeds: [1, 2, 1]", "the seed 1 is also at position 0"),
        ("seeds: 3", "is not a list"),
        ("space: {a: []}", "space.a: is empty: it needs at least one value"),
        ("space: {a: 3}", "neither a list nor a range"),
        ("space: {a: [1, 2, 1.0]}", "space.a[2]: equals the value at position 0: 1 and 1.0"),
        ("space: {a: [{x: 1}, {x: 1.0}]}", "equals the value at position 0"),
        ("space: {a: [1, .nan]}", "space.a[1]: is not finite"),
        ("space: {a: [1e999]}", "is not finite"),
        ("space: {a: [99999999999999999999]}", "is out of range"),
        ("space: {a: {uniform: [1]}}", "is not two numbers"),
        ("space: {a: {uniform: [2, 1]}}", "low is not below high"),
        ("space: {a: {uniform: [1, 1.0]}}", "low is not below high"),
        ("space: {a: {uniform: [0, 1e19]}}", "bounds between -2^63 and 2^63"),
        ("space: {a: {uniform: [-.inf, 1]}}", "space.a.uniform[0]: is not finite"),
        ("space: {a: {log_uniform: [0, 1]}}", "space.a.log_uniform[0]: the lower bound"),
        ("space: {a: {log_int: [0, 4]}}", "is not above 0"),
        ("space: {a: {int: [1.5, 4]}}", "space.a.int[0]: is not an integer"),
        ("space: {a: {int: [1, 1e3]}}", "write 1000"),
        ("space: {a: {log_unifrom: [1, 2]}}", "did you mean 'log_uniform'?"),
        ("space: {a: {quantized: [1, 2]}}", "space.a.quantized: has no step"),
        ("space: {a: {int: [1, 2], uniform: [1, 2]}}", "a range has one kind"),
        ("space: [1]", "space: is not a mapping"),
        ('space: {"": [1]}', "has no usable name"),
        ('space: {"a\\nb": [1]}', "has no usable name"),
        ("linked: [{a: [1, 2], b: [1, 2, 3], c: [1]}]", "'a': 2, 'b': 3, 'c': 1"),
        ("linked: [{a: [1, 1], b: [2, 2]}]", "equal in every list"),
        ("linked: [{}]", "at least one parameter"),
        ("linked: {a: [1]}", "linked: is not a list"),
        (
            "space: {a: [1]}\nfixed:\n  a: 2",
            "s.yaml:7: fixed.a: the parameter 'a' is also on line 5 (space.a)",
        ),
        ("linked: [{a: [1]}, {a: [2]}]", "is also on line 5 (linked[0].a)"),
        ("fixed: {a: .inf}", "fixed.a: is not finite"),
        ("space: {a: {uniform: [0, 1]}, b: [1], c: {log_uniform: [1, 2]}}", "continuous: 'a' and 'c'"),
        ("space: {a: [1, 2]}\nexpect_points: 3", "the search has 2 points, not 3"),
        ("space: {a: [1, 2]}\nseeds: [0, 1, 2]\nmax_trials: 5", "2 points x 1 fold x 3 seeds = 6 trials"),
        ("space: {a: {int: [0, 100000]}}", "write max_trials: 100001"),
        ("folds: {kfold: 5}", "folds need the samples"),
        ("folds: {kfold: 1}\ndata: {index: a.csv}", "an integer between 2"),
        ("folds: {kfold: 2, grouped: 2}\ndata: {index: a.csv}", "needs one of kfold"),
        ("folds: {stratified: 5}\ndata: {index: a.csv}", "need the column 'label'"),
        ("folds: {grouped: 5}\ndata: {index: a.csv, label: y}", "need the column 'group'"),
        ("folds: {kfold: 5, seed: [0, 1]}\ndata: {index: a.csv}", "the split seed cannot be searched"),
        ("folds: {kfold: 5, test_share: 1}\ndata: {index: a.csv}", "is out of range"),
        ("folds: 5", "folds such as {stratified: 5}"),
        ("data: {id: a}", "needs one of index and function"),
        ("data: {index: a.csv, function: 'a:b'}", "needs one of index and function"),
        ("data: {function: 'a b'}", "module:function"),
        ("files: [/etc/passwd]", "does not stay below"),
        ("files: [a/../../b]", "does not stay below"),
        ("files: ['a**']", "'**' stands alone"),
        ("metric_file: a.json", "belongs to a command"),
        ("command: [a]", "both trial and command"),
        ("space: {b: [1, 0]}\nretry: {oom: {halve: b}}", "'b' cannot be halved"),
        ("fixed: {b: 1.5}\nretry: {oom: {halve: b}}", "'b' cannot be halved"),
        ("retry: {oom: {ladder: plane}}", "did you mean 'plain'?"),
        ("retry: {no_progress: 0}", "between 1 and 250"),
        ('description: "a\\x00b"', "control character"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    assert words in told(GRID + text + "\n")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("random", "needs its number of points"),
        ("{random: {}}", "the key 'points' is missing"),
        ("{random: {points: 0}}", "1 or more"),
        ("{random: {points: 7}}", "7 points cannot be drawn without replacement from 6"),
        ("{random: {points: 7}}", "at most 2 x 3 = 6"),
        ("{rnadom: {points: 1}}", "did you mean 'random'?"),
        ("{grid: {points: 1}}", "the strategy grid has no options"),
        ("{grid: {}, random: {points: 1}}", "is not one strategy"),
        ("[grid]", "is not a mapping"),
    ],
)
def test_a_wrong_strategy_is_refused(strategy: str, words: str) -> None:
    assert words in told(f"{HEAD}strategy: {strategy}\nspace: {{a: [1, 2], b: [1, 2, 3]}}\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [('""', "is empty"), ('" "', "is empty"), ('"a\\nb"', "line end"), ("1", 'write it in quotes: "1"')],
)
def test_a_name_is_a_text_on_one_line(name: str, words: str) -> None:
    assert words in told(GRID.replace("name: x", f"name: {name}", 1))


def test_a_name_may_hold_spaces_and_quotes() -> None:
    assert read(GRID.replace("name: x", "name: my 'best' \"run\"", 1)).name == "my 'best' \"run\""


def test_a_name_over_200_characters_is_refused() -> None:
    assert "at most 200" in told(GRID.replace("name: x", f"name: {'x' * 201}", 1))


@pytest.mark.parametrize(
    "trial", ["train", "train.py", "../t.py:f", "/t.py:f", "a b:f", "m:f()", "m:", "m.py:a.b"]
)
def test_a_trial_that_names_no_function_is_refused(trial: str) -> None:
    assert "module:function or file.py:function" in told(GRID.replace("train.py:train", f"'{trial}'"))


@pytest.mark.parametrize("trial", ["m:f", "pkg.mod:f", "train.py:f", "./src/my-train.py:f"])
def test_a_trial_names_a_module_or_a_file(trial: str) -> None:
    assert read(GRID.replace("train.py:train", trial)).trial.callable == trial


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python train.py", "a list of arguments, never a shell line"),
        ("[]", "needs at least one value"),
        ("[python, 3]", 'write it in quotes: "3"'),
        ("[python, '{learning_rat}']", "unknown parameter 'learning_rat'; did you mean 'learning_rate'?"),
        ("[python, '{head}']", "unknown parameter 'head'; it is a group, which has head.a and head.b"),
        ("[python, '{']", "a brace without its other half"),
        ("[python, '{}']", "unknown parameter ''"),
        ('[""]', "the program to run"),
        ('["a\\0"]', "no NUL"),
    ],
)
def test_a_wrong_command_is_refused(command: str, words: str) -> None:
    text = f"name: x\ncommand: {command}\nmetric: {{name: a, goal: max}}\nstrategy: grid\n"
    assert words in told(f"{text}space: {{learning_rate: [1], head: {{a: [1], b: [2]}}}}\n")


@pytest.mark.parametrize("missing", ["name", "trial", "metric", "strategy"])
def test_a_missing_key_is_named_with_an_example(missing: str) -> None:
    text = "".join(line for line in GRID.splitlines(keepends=True) if not line.startswith(missing))
    [problem] = refused(text).problems
    assert problem.path == missing
    assert missing in problem.expected


OBJECTIVES = "name: x\ntrial: m:f\nspace: {a: [1, 2]}\nstrategy: grid\n"


def test_the_first_of_several_objectives_is_the_metric() -> None:
    several = "objectives: [{name: acc, goal: max}, {name: latency, goal: min}]\n"
    search = read(OBJECTIVES + several)

    assert (search.metric.name, search.metric.goal) == ("acc", "max")
    assert [(one.name, one.goal) for one in search.objectives] == [("acc", "max"), ("latency", "min")]
    assert read(OBJECTIVES + "objectives: [{name: acc, goal: max}]\n").objectives == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("objectives: []", "needs at least one"),
        ("objectives: [{name: a, goal: max}, {name: a, goal: min}]", "'a' is there twice"),
        ("objectives: [{name: a, goal: max}, {name: b, goal: best}]", "objectives[1].goal"),
        ("objectives: [{name: a, goal: maximise}]", "write max"),
        ("metric: {name: a, goal: max}\nobjectives: [{name: a, goal: max}]", "both metric and objectives"),
        ("metric: {name: a, goal: max}\nbudget: {hours: 0}", "budget.hours"),
        ("metric: {name: a, goal: max}\nbudget: {gpu_hours: -1}", "budget.gpu_hours"),
        ("metric: {name: a, goal: max}\nbudget: {days: 1}", "unknown key 'days'"),
        ("metric: {name: a, goal: max}\nbudget: {}", "has no limit"),
    ],
)
def test_wrong_objectives_and_budgets_are_told(lines: str, words: str) -> None:
    assert words in told(f"{OBJECTIVES}{lines}\n")


def test_a_budget_limits_what_it_names() -> None:
    budget = read(OBJECTIVES + "metric: {name: a, goal: max}\nbudget: {gpu_hours: 0.5}\n").budget

    assert (budget.hours, budget.gpu_hours) == (0.0, 0.5)


@pytest.mark.parametrize("metric", ["val_acc", "{name: a}", "{goal: max}", '{name: "a\\nb", goal: max}'])
def test_a_metric_has_a_name_and_a_goal(metric: str) -> None:
    assert "metric" in told(f"name: x\ntrial: m:f\nmetric: {metric}\nstrategy: grid\n")


def test_a_wrong_count_is_told_with_its_factors() -> None:
    space = "space:\n  a: [1, 2, 3, 4, 5]\n  b: [1, 2, 3, 4, 5]\n"
    space += "".join(f"  c{number}: [1, 2, 3]\n" for number in range(7))
    message = told(f"{GRID}{space}expect_points: 30375\n")
    assert "the search has 54,675 points, not 30,375" in message
    assert "5 x 5 x 3^7 = 54,675" in message
    assert read(f"{GRID}{space}expect_points: 54675\n").expect_points == 54_675


def test_a_count_beyond_all_digits_is_still_told() -> None:
    space = "space: {" + ", ".join(f"a{number}: {{int: [0, 999999]}}" for number in range(900)) + "}\n"
    assert "about 10^5400 points" in told(GRID + space)


def test_more_parameters_than_anyone_has_are_refused() -> None:
    space = "space: {" + ", ".join(f"a{number}: [1]" for number in range(1001)) + "}\n"
    assert "more than 1,000 parameters" in told(GRID + space)


def test_a_hyperparameter_may_be_called_seed() -> None:
    assert "seed" in read(f"{GRID}space: {{seed: [1, 2]}}\n").space.names


@pytest.mark.parametrize(
    "body",
    [
        "space: {a: [1e-5, 1, -0.0, 1e22, yes, 'no', null, true, '1', 'a: b', \"\\x85\\u2028 \\ufeff\"]}",
        "space: {a: [[1, [2.5]], {x: {y: null}, 'a b': 1}], 'b c': [1], 'null': [1], '1': [2]}",
        "linked: [{a: [1, 2], b: [x, y]}, {c: [3]}]\nfixed: {d: {e: []}, f: {}, g: '', y: on}",
        "data: {function: 'm:f', id: i, group: g}\nfolds: {grouped: 3, seed: 7, test_share: 0.2}",
        'retry: {oom: {}}\nexpect_points: 1\nstall: 1h\nkeep_checkpoints: true\ndescription: "a\\n b"',
        "files: ['src/**/*.py', './a b.txt']\nseeds: [3, 1]",
        f"fixed: {{a: {{? {'k' * 2000} : 1}}}}",
        'fixed: {a: \U0001f600, b: \u00e9\u4e2d, \'c"\\\': "\\a\\e"}',
    ],
)
def test_a_dumped_search_reads_back_equal(body: str) -> None:
    search = read(f"{GRID}{body}\n")
    text = dump_search(search)
    again = read(text)
    assert again == search
    assert repr(again) == repr(search)
    assert dump_search(again) == text


def test_a_dumped_file_means_the_same_to_readers_of_yaml_1_1() -> None:
    import yaml

    search = read(f"{GRID}fixed: {{lr: 1e-5, big: 1e22, word: yes, key: {{on: 'off'}}, text: '1e-3'}}\n")
    assert yaml.safe_load(dump_search(search))["fixed"] == search.space.fixed


def test_a_file_is_read_from_its_path_and_named_in_problems(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GRID)
    assert load_search(path).name == "x"
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=str(path)):
        load_search(path)


def test_a_path_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such search file"):
        load_search(tmp_path / "missing.yaml")
    with pytest.raises(UsageError, match="a directory"):
        load_search(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_search(Path("a\0b"))


def test_importing_the_package_does_not_import_yaml() -> None:
    code = "import sys, hpc_search.config; sys.exit('yaml' in sys.modules or 'difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_placeholders_allowed_are_those_that_a_command_is_given() -> None:
    from hpc_search.config import checks
    from hpc_search.runners import command

    assert set(checks.RESERVED) == set(command.RESERVED)
