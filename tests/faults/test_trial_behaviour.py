"""Whatever a trial does, its worker records what happened and goes on to the next one."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hpc_search.records import journal as lines
from tests.faults.site import Site

CASES = (
    "good", "raises", "nan", "nan_report", "missing", "nothing", "text", "huge", "exits", "exits_silently",
    "segfault", "killed", "hangs", "forks", "leaves_children", "unread", "surrogate", "memory", "noisy",
    "kills_template", "numpy_step", "bad_step", "garbage", "interrupt", "closes_output", "changes_directory",
    "unstoppable", "returns_twice", "fork_reports", "closes_all", "dies_at_exit", "hangs_at_exit",
)  # fmt: skip
SEARCH = f"""
name: zoo
trial: train.py:train
metric: {{name: acc, goal: max}}
space: {{case: [{", ".join(CASES)}], other: [1, 2]}}
strategy: {{random: {{points: {2 * len(CASES)}, seed: 0}}}}
stall: 0.5
log_bytes: 20000
heartbeat: 0.5
lease: 20
"""
TRAIN = """
import os, signal, subprocess, sys, time

def train(trial):
    case = trial.params["case"]
    if case != "unread":
        trial.params["other"]
    if case != "unread" and trial.params["other"] != 1:
        return {"acc": 0.25}
    print("running", case, flush=True)
    return globals()[case](trial)

def good(trial):
    trial.report(0, acc=0.1)
    return {"acc": 0.5, "loss": float("inf")}

def raises(trial): raise ValueError("what the user wrote")
def nan(trial): return {"acc": float("nan")}
def nan_report(trial): trial.report(3, acc=float("nan"))
def missing(trial): return {"accuracy": 1.0}
def nothing(trial): trial.report(0, acc=0.5)
def text(trial): return {"acc": "0.5"}
def huge(trial): return {"acc": 0.5, "n": 10**400}
def exits(trial): sys.exit("enough")
def exits_silently(trial): os._exit(0)
def segfault(trial): os.kill(os.getpid(), signal.SIGSEGV)
def killed(trial): os.kill(os.getpid(), signal.SIGKILL)

def hangs(trial):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)

def forks(trial):
    pid = os.fork()
    if pid == 0:
        # A child of the trial dies by SIGTERM as anywhere else.
        time.sleep(600)
        os._exit(0)
    time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    program = subprocess.Popen(["sleep", "600"])
    program.terminate()
    return {"acc": 0.5, "fork": -os.waitstatus_to_exitcode(status), "program": -program.wait()}

def leaves_children(trial):
    subprocess.Popen(["sleep", "600"])
    return {"acc": 0.5}

def unread(trial): return {"acc": 0.5}
def surrogate(trial): raise ValueError("bad name \\udcff")
def memory(trial): raise MemoryError

def noisy(trial):
    for _ in range(100):
        print("x" * 999)
    return {"acc": 0.5}

def kills_template(trial):
    if trial.attempt == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"acc": 0.5}

def numpy_step(trial):
    import numpy
    trial.report(numpy.int64(4), acc=numpy.float32(0.5))
    trial.report_samples(numpy.arange(3), numpy.ones(3))
    return {"acc": numpy.float64(0.5)}

def bad_step(trial): trial.report(1.5, acc=1.0)

def garbage(trial):
    trial._channel._socket.sendall(b"garbage" * 100)
    time.sleep(60)

def interrupt(trial): raise KeyboardInterrupt

def closes_output(trial):
    os.close(1); os.close(2)
    return {"acc": 0.5}

def unstoppable(trial):
    if trial.attempt > 1:
        return {"acc": 0.5}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pids = [os.getpid()]
    for _ in range(2):
        pids.append(os.fork())
        if pids[-1] == 0:
            break
    with open(os.environ["HPC_TEST_ROOT"] + "/unstoppable", "a") as file:
        print(os.getpid(), file=file)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def returns_twice(trial):
    pid = os.fork()
    if pid == 0:
        return {"acc": 0.125}
    os.waitpid(pid, 0)
    os._exit(3)

def fork_reports(trial):
    pid = os.fork()
    if pid == 0:
        try:
            trial.report(1, acc=0.125)
        except Exception as error:
            print(error, flush=True)
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    return {"acc": 0.5, "status": os.waitstatus_to_exitcode(status)}

def closes_all(trial):
    os.closerange(0, 256)
    return {"acc": 0.5}

class Deadly:
    def write(self, text): pass
    def flush(self): os.kill(os.getpid(), signal.SIGSEGV)

def dies_at_exit(trial):
    sys.stdout = Deadly()
    return {"acc": 0.5}

def hangs_at_exit(trial):
    import atexit, threading
    atexit.register(time.sleep, 600)
    threading.Thread(target=time.sleep, args=(600,)).start()
    return {"acc": 0.5}

def changes_directory(trial):
    os.chdir("/")
    return {"acc": 0.5}
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, lines.End]:
    """Run every case once, by one worker; return the results by case."""
    site = Site(tmp_path_factory.mktemp("zoo"), SEARCH, TRAIN)
    site.work()
    found = {}
    others = 0
    for result in site.results().values():
        if result.end.params["other"] == 1 or result.end.params["case"] == "unread":
            found[result.end.params["case"]] = result.end
        else:
            others += 1
            assert (result.end.state, result.end.value) == ("done", 0.25), result.end
    assert others == len(CASES) - 1
    assert set(found) == set(CASES)
    assert site.results().keys() == set(range(2 * len(CASES)))
    log = site.log()
    assert "ValueError: what the user wrote" in log
    assert "a process that the trial started called report" in log
    assert "output after 20000 bytes is dropped" in log
    assert log.count("x" * 999) < 25
    assert not list(site.layout.checkpoints.iterdir())
    return found


def test_a_result_is_a_result_and_infinite_extras_are_left_out(zoo: dict[str, lines.End]) -> None:
    end = zoo["good"]
    assert (end.state, end.value, end.metrics) == ("done", 0.5, {"acc": 0.5})


@pytest.mark.parametrize(
    ("case", "cause", "words"),
    [
        ("raises", "error", "ValueError: what the user wrote"),
        ("nan", "nonfinite", "acc = nan"),
        ("nan_report", "nonfinite", "acc is nan at step 3"),
        ("missing", "error", "did not return the metric 'acc'; it returned 'accuracy'"),
        ("nothing", "error", "returned nothing"),
        ("text", "error", "acc = '0.5', which is not a number"),
        ("huge", "error", "not a number"),
        ("exits", "error", "sys.exit('enough')"),
        ("exits_silently", "error", "exit status 0 and no result"),
        ("segfault", "error", "SIGSEGV"),
        ("killed", "lost", "SIGKILL; the kernel kills so when memory runs out"),
        ("unread", "noop", "'other'"),
        ("surrogate", "error", "bad name \\udcff"),
        ("memory", "oom", "MemoryError"),
        ("bad_step", "error", "the step is 1.5, not a whole number"),
        ("garbage", "error", "the line to the supervisor was damaged"),
        ("interrupt", "error", "KeyboardInterrupt"),
        ("closes_all", "error", "no result"),
        # The copy of the function in the forked process gave one.
        ("returns_twice", "error", "exit status 3 and no result"),
    ],
)
def test_a_failure_has_a_cause_and_words_and_no_metric(
    zoo: dict[str, lines.End], case: str, cause: str, words: str
) -> None:
    end = zoo[case]
    assert (end.state, end.cause, end.value, end.metrics) == ("failed", cause, None, {}), end.detail
    assert words in end.detail


def test_a_trial_that_ignores_everything_and_hangs_is_killed_again_and_again_and_then_fails(
    zoo: dict[str, lines.End],
) -> None:
    end = zoo["hangs"]
    assert (end.state, end.cause, end.attempt) == ("failed", "timeout", 5)
    assert "no sign of life" in end.detail


@pytest.mark.parametrize("case", [
    "noisy", "leaves_children", "closes_output", "changes_directory", "dies_at_exit", "hangs_at_exit",
])  # fmt: skip
def test_what_is_odd_and_harmless_is_done(zoo: dict[str, lines.End], case: str) -> None:
    assert (zoo[case].state, zoo[case].attempt) == ("done", 1)


def test_a_process_that_a_trial_forked_may_not_report(zoo: dict[str, lines.End]) -> None:
    assert zoo["fork_reports"].metrics == {"acc": 0.5, "status": 7.0}


def test_a_trial_that_blocks_every_signal_is_killed_with_all_that_it_forked(
    zoo: dict[str, lines.End], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pids = (tmp_path_factory.getbasetemp() / "zoo0" / "unstoppable").read_text().split()
    assert len(pids) == 3
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)
    assert (zoo["unstoppable"].state, zoo["unstoppable"].attempt) == ("done", 2)


def test_children_of_a_trial_die_by_sigterm_as_anywhere_else(zoo: dict[str, lines.End]) -> None:
    assert zoo["forks"].metrics == {"acc": 0.5, "fork": 15.0, "program": 15.0}


def test_a_trial_whose_template_was_killed_is_tried_again_at_no_cost(zoo: dict[str, lines.End]) -> None:
    end = zoo["kills_template"]
    assert (end.state, end.value, end.attempt) == ("done", 0.5, 2)


def test_numbers_of_numpy_are_numbers(zoo: dict[str, lines.End]) -> None:
    end = zoo["numpy_step"]
    assert (end.state, end.value) == ("done", 0.5)
    assert end.samples is not None


# -- programs
PROGRAMS = {
    "good": "report(step=1, acc=0.25); report(acc=0.5, step=2)",
    "exit3": 'print("about to fail"); sys.exit(3)',
    "killed": "os.kill(os.getpid(), 9)",
    "silent": "pass",
    "nan": 'report(acc=float("nan"))',
    "huge": 'open(path, "w").write("{\\"acc\\": 1" + "0" * 400 + ", \\"step\\": 1}\\n")',
    "huge_step": 'open(path, "w").write("{\\"acc\\": 1, \\"step\\": 1" + "0" * 40 + "}\\n")',
    "surrogate": 'open(path, "w").write("{\\"acc\\": 1, \\"\\\\udcff\\": 1, \\"step\\": 1}\\n")',
    "not_json": 'open(path, "w").write("acc=0.5\\n")',
    "removes": "os.unlink(path)",
    "hangs": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    "result_and_exit1": "report(acc=0.5); sys.exit(1)",
    "places": 'open(os.environ["HPC_SEARCH_CHECKPOINT_DIR"] + "/x", "w"); report(acc=0.5)',
}
PROGRAM = """
import json, os, signal, sys, time
path = os.environ["HPC_SEARCH_REPORT"]
trial = json.loads(os.environ["HPC_SEARCH_TRIAL"])

def report(**line):
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\\n")

assert sys.argv[1] == trial["params"]["case"], sys.argv
exec(json.load(open("programs.json"))[sys.argv[1]])
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, lines.End]]:
    """Run every program once; return the site and the results by case."""
    import json
    import sys

    root = tmp_path_factory.mktemp("programs")
    (root / "programs.json").write_text(json.dumps(PROGRAMS))
    (root / "tool.py").write_text(PROGRAM)
    search = f"""
        name: programs
        command: [{sys.executable}, tool.py, "{{case}}"]
        metric: {{name: acc, goal: max}}
        space: {{case: [{", ".join(PROGRAMS)}]}}
        strategy: grid
        stall: 0.5
        retry: {{error: 0}}
        """
    site = Site(root, search)
    site.work()
    return site, {result.end.params["case"]: result.end for result in site.results().values()}


def test_a_program_reports_its_last_value_by_name(programs: tuple[Site, dict[str, lines.End]]) -> None:
    site, found = programs
    assert (found["good"].state, found["good"].value) == ("done", 0.5)
    assert "about to fail" in site.log()
    assert (found["places"].state, found["huge_step"].state) == ("done", "done")
    assert set(found) == set(PROGRAMS)


@pytest.mark.parametrize(
    ("case", "cause", "words"),
    [
        ("exit3", "error", "exit status 3"),
        ("killed", "lost", "SIGKILL"),
        ("silent", "error", "did not return the metric 'acc'"),
        ("nan", "nonfinite", "acc = nan"),
        ("huge", "error", "not a number"),
        ("not_json", "error", "line 1 of the report is not JSON"),
        ("removes", "error", "did not return the metric"),
        ("hangs", "timeout", "no sign of life"),
        ("result_and_exit1", "error", "exit status 1"),
    ],
)
def test_a_program_that_fails_has_a_cause_and_words(
    programs: tuple[Site, dict[str, lines.End]], case: str, cause: str, words: str
) -> None:
    end = programs[1][case]
    assert (end.state, end.cause, end.value) == ("failed", cause, None), end.detail
    assert words in end.detail


def test_a_hostile_report_does_not_end_the_worker(programs: tuple[Site, dict[str, lines.End]]) -> None:
    site, found = programs
    assert found["surrogate"].state in ("done", "failed")
    assert "Traceback" not in site.said()
    assert len(list(site.layout.workers.iterdir())) == 1


def test_a_program_that_is_gone_when_the_trial_starts_is_named(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o700)
    search = """
        name: gone
        command: [./tool, "--x={x}"]
        metric: {name: acc, goal: max}
        space: {x: [1, 2]}
        strategy: grid
        snapshot: none
        """
    site = Site(tmp_path, search)
    tool.unlink()
    site.work()
    assert [end.cause for end in site.ends()] == ["error", "error"]
    assert "'./tool' cannot be started: No such file or directory" in site.ends()[0].detail


def test_metrics_come_from_the_file_that_the_search_names(tmp_path: Path) -> None:
    search = """
        name: file
        command: [sh, -c, "echo '{{\\"acc\\": {x}}}' > \\"{checkpoint_dir}/out.json\\""]
        metric: {name: acc, goal: max}
        metric_file: out.json
        space: {x: [0.25, 0.75]}
        strategy: grid
        """
    site = Site(tmp_path, search)
    site.work()
    assert [result.end.value for _, result in sorted(site.results().items())] == [0.25, 0.75]


def test_code_that_cannot_be_imported_stops_the_search_once_and_says_why(tmp_path: Path) -> None:
    search = """
        name: broken
        trial: train.py:train
        metric: {name: acc, goal: max}
        space: {x: [1, 2, 3]}
        strategy: grid
        """
    site = Site(tmp_path, search, "import no_such_module\ndef train(trial): pass\n")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in site.work(code=1)
    assert "no_such_module" in site.layout.stop.read_text()
    assert site.states() == ["pending"] * 3
    site.work()
    assert site.ends()[-1].state == "pending"
