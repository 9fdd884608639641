"""A trial that is a program: its arguments, its environment, and what it reports."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_search.errors import UsageError
from hpc_search.runners import command
from hpc_search.trial import Spec

HOSTILE = [
    "a b",
    "",
    "'",
    '"',
    "$(touch /tmp/x)",
    "`id`",
    "; rm -rf x",
    "a\nb",
    "*",
    "--flag=1",
    "{x}",
    "{{",
    "}}",
    "\\",
    "é☃",
    "-",
    "%s",
    "a\tb",
    "{number}",
]


def spec(**params: Any) -> Spec:
    return Spec(
        root="RUN",
        run_id="r",
        search_id="s",
        worker="w" * 16,
        number=7,
        point=3,
        fold=None,
        seed=2,
        params=params,
        attempt=4,
        metric="acc",
        threads=2,
    )


def structs(made: Spec) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}


def filled(argv: list[str], **params: Any) -> list[str]:
    return command.arguments(argv, spec(**params), Path("files"))


def test_placeholders_take_the_values_of_parameters() -> None:
    assert filled(["p", "--x={x}", "{y}{x}"], x=1, y="a") == ["p", "--x=1", "a1"]


def test_reserved_placeholders_are_known_and_parameters_come_first() -> None:
    argv = ["{number}", "{fold}", "{seed}", "{attempt}", "{checkpoint_dir}", "{threads}", "{device}"]
    argv.append("{accumulation}")
    assert filled(argv) == ["7", "", "2", "4", "files", "2", "cpu", "1"]
    assert filled(["{seed}"], seed=99) == ["99"]
    assert set(command.RESERVED) == command.placeholders(argv)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_inside_its_one_argument(value: str) -> None:
    argv = filled(
        [sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", "{x}", "b"], x=value
    )
    assert argv[3:] == [value, "b"]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert json.loads(done.stdout) == [value, "b"]


def test_double_braces_are_braces() -> None:
    assert filled(["{{x}}", "{{{x}}}", "}}{{"], x=1) == ["{x}", "{1}", "}{"]
    assert command.placeholders(["{{x}} {y} {{{z}}}"]) == {"y", "z"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-05, "1e-05"),
        (0.1, "0.1"),
        (3, "3"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        ("x", "x"),
        ([1, "a"], '[1, "a"]'),
        ({"k": None}, '{"k": null}'),
        (10**30, "1" + "0" * 30),
    ],
)
def test_values_are_written_so_that_they_read_back(value: object, text: str) -> None:
    assert filled(["{x}"], x=value) == [text]


def test_an_argument_of_a_parameter_that_the_point_does_not_have_is_left_out_with_its_option() -> None:
    argv = ["t", "--lr={lr}", "--momentum", "{momentum}", "--m={momentum}", "-v", "{head.layers}"]
    absent = Spec(**{**structs(spec(lr=0.1, **{"head.layers": 2})), "implied": {"momentum": ("optimizer",)}})
    assert command.arguments(argv, absent, Path("files")) == ["t", "--lr=0.1", "-v", "2"]
    assert filled(argv, lr=0.1, momentum=0.9, **{"head.layers": 2})[2:5] == ["--momentum", "0.9", "--m=0.9"]


def test_an_unknown_placeholder_and_a_nul_byte_are_named() -> None:
    with pytest.raises(UsageError, match="no parameter 'y'"):
        filled(["{y}"], x=1)
    with pytest.raises(UsageError, match="NUL byte"):
        filled(["{x}"], x="a\0b")


def test_the_environment_holds_the_trial_and_keeps_the_rest() -> None:
    found = command.environment({"PATH": "p"}, spec(x=1), Path("report"), Path("files"))
    trial = json.loads(found["HPC_SEARCH_TRIAL"])
    assert found["PATH"] == "p"
    assert (found["HPC_SEARCH_REPORT"], found["HPC_SEARCH_CHECKPOINT_DIR"]) == ("report", "files")
    assert (trial["number"], trial["params"], trial["metric"], trial["fold"]) == (7, {"x": 1}, "acc", None)


def written(tmp_path: Path, text: str) -> tuple[list[dict[str, Any]], str]:
    path = tmp_path / "report.jsonl"
    path.write_text(text)
    return command.read_report(path)


def test_reports_are_json_lines_and_the_last_value_counts(tmp_path: Path) -> None:
    lines, problem = written(tmp_path, '{"step": 0, "acc": 0.1, "loss": 3}\n\n{"step": 1, "acc": 0.2}\n')
    assert problem == ""
    assert command.final_metrics(lines) == {"acc": 0.2, "loss": 3}
    assert command.reported(lines[0]) == (0, {"acc": 0.1, "loss": 3.0})


def test_a_last_line_without_its_newline_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    assert written(tmp_path, '{"acc": 0.1}\n{"acc": 0.2}')[0] == [{"acc": 0.1}, {"acc": 0.2}]
    lines, _ = written(tmp_path, '{"acc": 0.1}\n{"acc": 0.')
    assert lines == [{"acc": 0.1}]


@pytest.mark.parametrize("line", ["acc=0.5", "[1]", "0.5", '"x"', "{"])
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str) -> None:
    lines, problem = written(tmp_path, f'{{"acc": 0.1}}\n{line}\n{{"acc": 0.2}}\n')
    assert "line 2" in problem
    assert {"acc": 0.1} in lines


def test_no_report_file_is_no_report(tmp_path: Path) -> None:
    assert command.read_report(tmp_path / "none") == ([], "")


def test_an_enormous_report_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_REPORT_BYTES", 10)
    assert "larger than" in written(tmp_path, '{"acc": 0.12345}\n')[1]


@pytest.mark.parametrize(
    "line",
    [{"acc": 1}, {"step": 1.5, "acc": 1}, {"step": -1, "acc": 1}, {"step": 10**20, "acc": 1}, {"step": True}],
)
def test_a_report_without_a_step_that_counts_has_none(line: dict[str, Any]) -> None:
    assert command.reported(line)[0] is None


def test_values_that_are_not_finite_numbers_are_left_out_of_reports() -> None:
    line = {"step": 1, "a": float("nan"), "b": 10**400, "c": "x", "d": None, "e": 2, "f": [1]}
    assert command.reported(line) == (1, {"e": 2.0})


def test_the_metric_file_is_one_json_object(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    assert "without writing" in command.read_metric_file(path)[1]
    path.write_text("nope")
    assert "is not JSON" in command.read_metric_file(path)[1]
    path.write_text("[1]")
    assert "not a JSON object" in command.read_metric_file(path)[1]
    path.write_text('{"acc": 0.5}')
    assert command.read_metric_file(path) == ({"acc": 0.5}, "")


def test_a_result_is_done_failed_or_not_finite() -> None:
    assert command.result({"acc": 0.5, "x": float("inf")}, "", "acc") == {
        "state": "done",
        "metrics": {"acc": 0.5},
        "value": 0.5,
    }
    assert command.result({"acc": float("nan")}, "", "acc")["cause"] == "nonfinite"
    assert command.result({"acc": 0.5}, "line 3 is odd", "acc")["detail"] == "line 3 is odd"
    assert "'acc'" in command.result({}, "", "acc")["detail"]
    assert "'time'" in command.result({"acc": 0.5}, "", "acc", "time")["detail"]
