"""What a user gets wrong: the exit code, the words, the place; never a traceback of ours."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_search.layout import Layout
from hpc_search.ledger.submits import Intent
from hpc_search.planning import load_plan
from hpc_search.records import checked
from tests.e2e.command_line import SEARCH, Desk, Said, desk


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A working directory with a good search, planned as runs/my-search and never started."""
    made = desk(tmp_path_factory.mktemp("desk"))
    made.good("plan", "search.yaml")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Desk:
    """A working directory of the test's own, nothing planned."""
    return desk(tmp_path)


HEAD = "name: a\nmetric: {name: acc, goal: max}\nstrategy: grid\n"
FUNCTION = f"{HEAD}trial: train.py:train\n"


# -- the search file
@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (f"{FUNCTION}spce: {{x: [1]}}", "bad.yaml:5: spce", "unknown key 'spce'; did you mean 'space'?"),
        (f"{FUNCTION}space: {{x: 3}}", "bad.yaml:5: space.x", "put a single value under `fixed`"),
        (f"{FUNCTION}space: {{x: [1]}}\nthreads: two", "bad.yaml:6: threads", "found:    the string 'two'"),
        (f"{FUNCTION}space: {{x: []}}", "bad.yaml:5: space.x", "is empty: it needs at least one value"),
        (
            f"{FUNCTION}space: {{x: [1]}}\nlinked: [{{a: [1, 2], b: [1, 2, 3]}}]",
            "bad.yaml:6: linked[0]",
            "linked lists have unequal lengths\n    found:    'a': 2, 'b': 3",
        ),
        (
            f"{FUNCTION}space: {{x: {{int: [1, 1000000]}}}}",
            "bad.yaml:3: strategy",
            "more than 100,000 trials\n    found:    1,000,000 points x 1 fold x 1 seed = 1,000,000 trials",
        ),
        (
            FUNCTION.replace("name: a\n", 'name: "a\\nb"\n') + "space: {x: [1]}",
            "bad.yaml:1: name",
            "has a line end or another control character",
        ),
        (f"{FUNCTION}space: {{x: [1, 2}}", "bad.yaml:5: not valid YAML, line 5", "column"),
        ("", "bad.yaml:1", "the file is empty"),
        ("just words", "bad.yaml:1", "is not a mapping"),
        (f"{HEAD}space: {{x: [1]}}", "bad.yaml:1: trial", "neither trial nor command is given"),
        (
            f"{HEAD}trial: train\nspace: {{x: [1]}}",
            "bad.yaml:4: trial",
            "module:function or file.py:function",
        ),
        (
            f'{HEAD}command: [python, a.py, "{{xx}}"]\nspace: {{x: [1]}}',
            "bad.yaml:4: command[2]",
            "unknown parameter 'xx'; did you mean 'x'?",
        ),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_a_mistake_in_the_search_file_is_named_with_its_line(
    here: Desk, text: str, place: str, words: str
) -> None:
    here.write("bad.yaml", text)
    said = here.refused("plan", "bad.yaml", "--run", "runs/never")
    assert place in said
    assert words in said
    assert not (here.root / "runs" / "never").exists()


def test_all_mistakes_are_told_at_once_and_each_once(here: Desk) -> None:
    here.write("bad.yaml", f"{HEAD}command: python train.py\nspace: {{x: []}}\nseeds: 3\n")
    said = here.refused("plan", "bad.yaml")
    assert said.startswith("hpc-search: error: 3 problems in the configuration:")
    assert said.count("bad.yaml:") == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope.yaml", "nope.yaml: there is no such search file"),
        ("runs", "runs: a directory, not a search file"),
        ("latin.yaml", "latin.yaml:1: the file is not UTF-8 text"),
    ],
)
def test_a_search_file_that_cannot_be_read(here: Desk, name: str, words: str) -> None:
    (here.root / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert words in here.refused("plan", name)


# -- what the search file names
@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ("train.py:tran", "train.py has no function 'tran'\n  next: did you mean 'train'?"),
        ("trian.py:train", "there is no file"),
        ("no.such:train", "the module 'no.such' is not found"),
        ("syntax.py:train", "syntax.py:2: the file is not valid Python"),
    ],
)
def test_a_trial_that_is_not_there(here: Desk, trial: str, words: str) -> None:
    here.write("syntax.py", "import os\ndef train(:\n    pass\n")
    here.write("bad.yaml", f"{HEAD}trial: {trial}\nspace: {{x: [1]}}\n")
    assert words in here.refused("plan", "bad.yaml")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program", "'no-such-program' is not found on PATH"),
        ("./no-such-program", "'./no-such-program' is not found here"),
        ("plain.sh", "write ./plain.sh for the one beside the search file"),
        ("./plain.sh", "is not executable\n  next: `chmod +x ./plain.sh`"),
    ],
)
def test_a_command_that_is_not_found(here: Desk, command: str, words: str) -> None:
    here.write("plain.sh", "#!/bin/sh\n").chmod(0o644)
    here.write("bad.yaml", f'{HEAD}command: [{command}, "{{x}}"]\nspace: {{x: [1]}}\n')
    assert words in here.refused("plan", "bad.yaml")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{index: nope.csv, id: i, label: y}", "nope.csv cannot be read (No such file or directory)"),
        (
            "{index: data.csv, id: i, label: z}",
            "data.csv: no column 'z'\n    hint:     its columns are: i, y",
        ),
        (
            "{function: 'table.py:tabel', id: i, label: y}",
            "has no function 'tabel'\n    hint:     did you mean 'table'?",
        ),
        ("{function: 'table.py:broken', id: i, label: y}", "data: table.py:broken failed: ZeroDivisionError"),
        ("{function: 'table.py:leaves', id: i, label: y}", "data: table.py:leaves failed: SystemExit: 3"),
        (
            "{function: 'imports.py:table', id: i, label: y}",
            "failed: ModuleNotFoundError: No module named 'nono'",
        ),
    ],
)
def test_data_that_cannot_be_had(here: Desk, data: str, words: str) -> None:
    here.write("data.csv", "i,y\n1,a\n2,b\n")
    here.write(
        "table.py", "import sys\ndef table(): pass\ndef broken(): return 1 / 0\ndef leaves(): sys.exit(3)\n"
    )
    here.write("imports.py", "import nono\ndef table(): pass\n")
    here.write("bad.yaml", f"{FUNCTION}space: {{x: [1]}}\ndata: {data}\nfolds: {{stratified: 2}}\n")
    said = here.refused("plan", "bad.yaml")
    assert words in said
    if "broken" in data:
        assert "table.py:3: def broken(): return 1 / 0" in said


# -- RUN
def test_the_same_file_again_is_already_planned_and_changes_nothing(here: Desk) -> None:
    before = (here.root / "runs/my-search/plan.json").read_bytes()
    assert "already planned" in here.good("plan", "search.yaml")
    assert (here.root / "runs/my-search/plan.json").read_bytes() == before


def test_the_search_file_of_a_run_is_the_same_search_where_its_code_is(here: Desk) -> None:
    text = (here.root / "runs/my-search/search.yaml").read_text()
    assert "copying it to where the code is" in here.refused("plan", "runs/my-search/search.yaml")
    here.write("again.yaml", text)
    assert "already planned" in here.good("plan", "again.yaml")


def test_another_search_in_the_place_of_a_run_is_refused_with_the_difference(here: Desk) -> None:
    here.write("other.yaml", SEARCH.replace("[1, 2, 3]", "[1, 2, 4]"))
    said = here.refused("plan", "other.yaml")
    assert "runs/my-search holds another search:" in said
    assert "-  x: [1, 2, 3]" in said
    assert "+  x: [1, 2, 4]" in said
    assert "--run DIR" in said


def test_a_place_that_is_no_run_is_left_alone(here: Desk) -> None:
    mine = here.write("thesis/chapter1.tex", "text")
    assert "thesis exists and is not a run" in here.refused("plan", "search.yaml", "--run", "thesis")
    assert "search.yaml exists and is not a run" in here.refused(
        "plan", "search.yaml", "--run", "search.yaml"
    )
    assert "search.yaml is a file" in here.refused("plan", "search.yaml", "--run", "search.yaml/run")
    assert "thesis is not a run: it has no plan.json" in here.refused("status", "thesis")
    assert mine.read_text() == "text"
    assert [path.name for path in mine.parent.iterdir()] == ["chapter1.tex"]


@pytest.mark.parametrize("verb", ["status", "submit", "collect", "cancel", "work"])
def test_a_misspelt_run_shows_the_similar_names(here: Desk, verb: str) -> None:
    assert "there is no run 'my-seach'; did you mean 'my-search'?" in here.refused(verb, "my-seach")


def test_a_run_far_from_every_name_shows_what_there_is(here: Desk) -> None:
    assert "under runs/ there are: my-search" in here.refused("status", "zzz")


def test_two_plans_at_once_make_one_run(fresh: Desk) -> None:
    said = _at_once(fresh, [["plan", "search.yaml", "--run", "r"]] * 4)
    assert [one.code for one in said] == [0] * 4, said
    assert sum("planned now" in one.out for one in said) == 1
    assert len({line for one in said for line in one.out.splitlines() if "run id" in line}) == 2
    assert not list(fresh.root.glob(".t-*"))


def test_two_plans_of_different_searches_at_once_one_wins_whole(fresh: Desk) -> None:
    for number in (4, 5, 6):
        fresh.write(f"s{number}.yaml", SEARCH.replace("2, 3]", f"2, {number}]"))
    said = _at_once(fresh, [["plan", f"s{number}.yaml", "--run", "r"] for number in (4, 5, 6)])
    assert sorted(one.code for one in said) == [0, 2, 2], said
    assert all("holds another search" in one.err for one in said if one.code)
    assert "Traceback" not in "".join(one.all for one in said)
    assert not list(fresh.root.glob(".t-*"))


def _at_once(where: Desk, calls: list[list[str]]) -> list[Said]:
    started = [
        subprocess.Popen(
            where.argv(*call),
            cwd=where.root,
            env=where.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for call in calls
    ]
    outputs = [process.communicate(timeout=60) for process in started]
    return [Said(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("""'it''s my "best" search'""", "it-s-my-best-search"),
        ("'../../etc/passwd; rm -rf ~'", "etc-passwd-rm-rf"),
        ("'..'", "search"),
        ("'µ ✓'", "search"),
    ],
)
def test_a_name_with_spaces_and_quotes_becomes_a_plain_directory(
    fresh: Desk, name: str, directory: str
) -> None:
    fresh.write("named.yaml", SEARCH.replace("name: my search", f"name: {name}"))
    fresh.good("plan", "named.yaml")
    assert [path.name for path in (fresh.root / "runs").iterdir()] == [directory]
    assert sorted(path.name for path in fresh.root.iterdir()) == [
        "named.yaml",
        "runs",
        "search.yaml",
        "train.py",
    ]


# -- verbs before anything ran
def test_status_with_nothing_started_says_what_to_do(here: Desk) -> None:
    assert "nothing was started yet: `submit RUN` starts workers" in here.good("status", "my-search")
    seen = json.loads(here.good("status", "my-search", "--json"))
    assert (seen["trials"], seen["pending"], seen["done"]) == (3, 3, 0)


def test_collect_with_nothing_finished_says_so(here: Desk) -> None:
    said = here.good("collect", "my-search")
    assert "0 of 3 trials finished" in said
    assert "no best hyperparameters yet: nothing is finished yet" in said


def test_cancel_with_nothing_started_says_so(here: Desk) -> None:
    assert "nothing to cancel" in here.good("cancel", "my-search")


def test_cancel_names_a_submission_whose_answer_is_not_known(fresh: Desk) -> None:
    fresh.good("plan", "search.yaml")
    layout = Layout(fresh.root / "runs" / "my-search")
    token = f"my-search-{load_plan(layout).run_id[-8:]}-0001"
    layout.submits.mkdir(exist_ok=True)
    intent = Intent(number=1, token=token, launcher="local", tasks=1, wanted=1)
    layout.submit_intent(1).write_bytes(checked.encode(intent))

    assert f"{token} may still be on its way: the same command again" in fresh.good("cancel", "my-search")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "my-search", "abc"], "'abc' is not a number such as 17"),
        (["show", "my-search", "99"], "trial 99 does not exist: the run has the trials 0 to 2"),
        (["rerun", "my-search", "999"], "trial 999 does not exist: the run has the trials 0 to 2"),
        (
            ["rerun", "my-search", "abc"],
            "'abc' is neither a trial's number nor a file\n  next: a number from 0 to 2",
        ),
        (["submit", "my-search", "--workers", "0"], "'0' is not a whole number from 1"),
        (["submit", "my-search", "--workers", "many"], "'many' is not a whole number from 1"),
        (["submit", "my-search", "--set", "nonsense"], "nonsense: is no assignment"),
        (["submit", "my-search", "--set", "partitio=a"], "did you mean 'partition'?"),
        (["submit", "my-search", "--set", "time=soon"], "time: is not a length of time"),
        (["submit", "my-search", "--profile", "nope.yaml"], "nope.yaml: there is no such profile"),
        (
            ["submit", "my-search", "--profile", "profile.yaml"],
            "profile.yaml:1: partiton: unknown key 'partiton'; did",
        ),
        (["submit", "my-search", "--launcher", "pbs"], "invalid choice: 'pbs'"),
        (["statsu", "my-search"], "invalid choice: 'statsu'"),
        ([], "the following arguments are required: VERB"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_named(here: Desk, arguments: list[str], words: str) -> None:
    here.write("profile.yaml", "partiton: gpu\n")
    assert words in here.refused(*arguments)


# -- trials that fail
KINDS = (
    "fine",
    "raises",
    "sys_exit",
    "killed",
    "no_metric",
    "no_dict",
    "nan",
    "nan_report",
    "text",
    "unread_key",
)
FAILING = """
import os, signal, sys

def train(trial):
    kind = trial.params["kind"]
    print("this is", kind)
    if kind == "raises":
        raise ValueError("the learning rate is odd")
    if kind == "sys_exit":
        sys.exit(3)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "no_dict":
        return None
    if kind == "nan_report":
        trial.report(4, acc=float("nan"))
    if kind == "unread_key":
        trial.params["knd"]
    bad = {"no_metric": {"acuracy": 1}, "nan": {"acc": float("nan")}, "text": {"acc": "high"}}
    return bad.get(kind, {"acc": 1})
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A finished run with one trial of every kind."""
    made = desk(tmp_path_factory.mktemp("failing"))
    made.write("train.py", FAILING)
    made.write("search.yaml", SEARCH.replace("{x: [1, 2, 3]}", f"{{kind: [{', '.join(KINDS)}]}}"))
    made.good("plan", "search.yaml", "--run", "r")
    said = made.go("r", code=1)
    assert "9 of 10 trials failed; `hpc-search status r` says why" in said.out
    assert "Traceback" not in said.all
    return made


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("raises", "error", "ValueError: the learning rate is odd"),
        ("sys_exit", "error", "the trial called sys.exit(3)"),
        ("killed", "error", "the trial's process was killed by SIGSEGV"),
        ("no_metric", "error", "the trial did not return the metric 'acc'; it returned 'acuracy'"),
        ("no_dict", "error", "the trial returned nothing; expected a dict with the metric 'acc'"),
        ("nan", "nonfinite", "the trial returned acc = nan"),
        ("nan_report", "nonfinite", "acc is nan at step 4"),
        ("text", "error", "the trial returned acc = 'high', which is not a number"),
        ("unread_key", "error", "no hyperparameter 'knd'; the search has: kind"),
    ],
)
def test_a_trial_that_fails_says_why(failing: Desk, kind: str, cause: str, words: str) -> None:
    number = KINDS.index(kind)
    said = failing.good("show", "r", str(number))
    assert f"result: failed ({cause})" in said
    assert words in said
    assert kind == "killed" or f"this is {kind}" in said


def test_a_shown_traceback_begins_with_the_users_code(failing: Desk) -> None:
    said = failing.good("show", "r", str(KINDS.index("raises")))
    first = said.split("Traceback (most recent call last):\n")[1].splitlines()[0]
    assert "train.py" in first
    assert "hpc_search/runners" not in said


def test_status_and_collect_group_the_failures(failing: Desk) -> None:
    said = failing.good("status", "r")
    assert "1 done, 9 failed (7 error, 2 nonfinite)" in said
    assert "and 4 more kinds" in said
    assert "`show RUN " in said
    groups = json.loads(failing.good("status", "r", "--json"))["failures"]
    segv = "the trial's process was killed by SIGSEGV"
    assert [(one["trial"], one["count"]) for one in groups if one["detail"] == segv] == [(3, 1)]
    assert "9 failed (7 error, 2 nonfinite)" in failing.good("collect", "r")


def test_failed_trials_have_no_value_in_the_results(failing: Desk) -> None:
    failing.good("collect", "r")
    with (failing.root / "r/results/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(KINDS)
    assert {row["param_kind"] for row in rows if row["value"]} == {"fine"}


def test_a_rerun_of_a_failed_trial_does_not_call_it_equal(failing: Desk) -> None:
    said = failing("rerun", "r", str(KINDS.index("raises")))
    assert said.code == 1
    assert "ValueError: the learning rate is odd" in said.out
    assert "not compared" in said.out


# -- code that cannot be imported
def test_an_import_that_fails_stops_the_search_with_its_words_and_what_to_do(fresh: Desk) -> None:
    fresh.write("train.py", "import no_such_library\n\ndef train(trial):\n    return {'acc': 1}\n")
    fresh.good("plan", "search.yaml", "--run", "r")
    said = fresh.go("r", code=1).out
    assert (
        "the trial's code cannot be imported: ModuleNotFoundError: No module named 'no_such_library'" in said
    )
    assert "install what is missing" in said
    assert "submit RUN --resnapshot" in said
    assert "3 trials are left" in said
    assert "died again" not in said
    assert "importlib" not in said
    assert 'train.py", line 1, in <module>' in said

    status = fresh.good("status", "r")
    assert "3 pending" in status
    assert "stopped: the trial's code cannot be imported: ModuleNotFoundError: No module named" in status
    assert "(with corrected code: `--resnapshot`) clears that" in status

    # The run keeps the code of its plan; the corrected code is planned anew.
    fresh.write("train.py", "def train(trial):\n    return {'acc': trial.params['x']}\n")
    warned = fresh("plan", "search.yaml", "--run", "r")
    assert "the sources changed since the run was planned" in warned.err
    fresh.go("r", code=1)
    fresh.good("plan", "search.yaml", "--run", "r2")
    fresh.go("r2")


def test_what_was_missing_and_is_installed_then_lets_the_same_run_go_on(fresh: Desk) -> None:
    libraries = fresh.root / "site"
    libraries.mkdir()
    there = Desk(fresh.root, environment={"PYTHONPATH": f"{fresh.variables()['PYTHONPATH']}:{libraries}"})
    there.write("train.py", "import late_library\ndef train(trial):\n    return {'acc': trial.params['x']}\n")
    there.good("plan", "search.yaml", "--run", "r")
    there.go("r", code=1)
    there.write("site/late_library.py", "")
    there.go("r")
    assert "3 done" in there.good("status", "r")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_library\ndef train(trial): pass\n", "No module named 'no_such_library'"),
        ("def train(trial):\n    raise ValueError('odd')\n", "ValueError: odd"),
        ("def train(trial):\n    return {'acc': 0.5}\n", "the trial never read it"),
    ],
)
def test_plan_check_finds_it_and_leaves_the_place_free(fresh: Desk, code: str, words: str) -> None:
    fresh.write("train.py", code)
    said = fresh("plan", "search.yaml", "--run", "r", "--check")
    assert said.code == 2, said.all
    assert "check: trial 0 failed: " in said.err
    assert words in said.err
    assert "correct it, then plan again; r was removed" in said.err
    assert not (fresh.root / "r").exists()

    fresh.write("train.py", "def train(trial):\n    return {'acc': trial.params['x']}\n")
    assert "checked: trial 0 ended" in fresh.good("plan", "search.yaml", "--run", "r", "--check")
    assert "3 pending" in fresh.good("status", "r")


# -- files of the run that are damaged
@pytest.fixture
def planned(fresh: Desk) -> Desk:
    """A run that was planned and not started, in r."""
    fresh.good("plan", "search.yaml", "--run", "r")
    return fresh


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_plan_is_named(planned: Desk, damage: str) -> None:
    plan = planned.root / "r/plan.json"
    content = plan.read_bytes()
    plan.write_bytes(content[:100] if damage == "cut" else content.replace(b"my search", b"my seerch"))
    for verb in (["status", "r"], ["plan", "search.yaml", "--run", "r"]):
        assert "r/plan.json does not verify" in planned.refused(*verb, code=4)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_instance_file_is_named_and_the_run_can_be_read(planned: Desk, damage: str) -> None:
    file = planned.root / "r/instance.json"
    file.unlink() if damage == "missing" else file.write_text("{")
    for verb in (["submit", "r", "--launcher", "local"], ["work", "r"], ["rerun", "r", "0"]):
        assert "r/instance.json" in planned.refused(*verb, code=4)
    planned.good("status", "r")


@pytest.mark.parametrize(("damage", "words"), [("missing", "is missing"), ("junk", "cannot be read")])
def test_a_damaged_code_zip_is_named(planned: Desk, damage: str, words: str) -> None:
    code = planned.root / "r/code.zip"
    code.unlink() if damage == "missing" else code.write_text("junk")
    said = planned("work", "r")
    assert said.code == 1, said.all
    assert f"code.zip {words}" in said.err
    assert "Traceback" not in said.all


def test_a_copied_run_can_be_read_but_not_run(planned: Desk) -> None:
    subprocess.run(["cp", "-r", "r", "copy"], cwd=planned.root, check=True)
    planned.good("status", "copy")
    for verb in (["submit", "copy", "--launcher", "local"], ["work", "copy"]):
        assert "is a copy of, or was moved from" in planned.refused(*verb)


# -- output that nobody reads
def test_output_that_is_closed_or_cut_short_gives_no_traceback(failing: Desk) -> None:
    python = f"{sys.executable} -m hpc_search show r 1 --json"
    said = failing.run(["bash", "-c", f"{python} | head -1; exit ${{PIPESTATUS[0]}}"])
    assert said.code in (0, 128 + signal.SIGPIPE)
    assert said.out.strip() == "{"
    assert said.err == ""
    for redirected, code in ((">&-", 0), (">/dev/full", 75)):
        said = failing.run(["bash", "-c", f"{python} {redirected}"])
        assert said.code == code, said.all
        assert "Traceback" not in said.err
