"""The script of an array, what sbatch is given, and what its words mean."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from hpc_search.config.profile import Profile
from hpc_search.config.slices import Pack, Slice
from hpc_search.config.slices import Request as SliceRequest
from hpc_search.errors import RefusedError, TemporaryError, UsageError
from hpc_search.launchers import control, slurm
from hpc_search.launchers.base import ActiveJobs, NoRoomError, Request, UnclearError
from hpc_search.launchers.refusals import explain
from hpc_search.launchers.slurm import SlurmLauncher, counted, sbatch_command
from hpc_search.site import environment
from hpc_search.site.limits import Place
from hpc_search.site.tasks import Task, parse_tasks

FAILED = "sbatch: error: Batch job submission failed: "
NO_SOURCE = """sbatch: error: fetch_config: DNS SRV lookup failed
sbatch: error: _establish_config_source: failed to fetch config
sbatch: fatal: Could not establish a configuration source"""
NO_FILE = """sbatch: error: s_p_parse_file: cannot stat file /x/slurm.conf: No such file or directory
sbatch: error: ClusterName needs to be specified
sbatch: fatal: Unable to process configuration file"""
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def request(run: str = "/scratch/run", **changes: Any) -> Request:
    profile = Profile(**changes.pop("profile", {}))
    return Request(run=run, token="ex-12345678-0001", tasks=20, profile=profile, **changes)


def script(**changes: Any) -> str:
    return SlurmLauncher().script(request(**changes))


def directives(text: str) -> dict[str, str]:
    # Like sbatch, which stops at the first line that is no comment.
    head = takewhile(lambda line: line.startswith("#") or not line, text.splitlines())
    lines = [line.removeprefix("#SBATCH --") for line in head if line.startswith("#SBATCH")]
    words = [shlex.split(line)[0].partition("=") for line in lines]
    return {name: value for name, _, value in words}


def test_script_has_the_token_as_job_name_and_no_wckey() -> None:
    found = directives(script(profile={"throttle": 8}))

    assert found["job-name"] == "ex-12345678-0001"
    assert found["array"] == "0-19%8"
    assert found["open-mode"] == "append"
    assert found["export"] == "NIL"
    assert found["output"] == "/scratch/run/submitit/ex-12345678-0001_%a.log"
    assert not {"wckey", "error"} & set(found)
    assert script().startswith("#!/bin/bash\n")


def test_fields_of_the_profile_become_options() -> None:
    profile = {
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "constraint": "a100",
        "slice": Slice(kind="whole", request=SliceRequest(gres="gpu:1")),
        "cpus": 4,
        "exclude": "node[1-2]",
        "reservation": "course",
        "signal_delay": 240,
        "extra": {"nice": "100"},
    }
    found = directives(script(profile=profile))

    expected = {"partition": "gpu", "account": "lab", "qos": "long", "constraint": "a100", "gres": "gpu:1"}
    assert expected.items() <= found.items()
    assert (found["cpus-per-task"], found["exclude"], found["reservation"]) == ("4", "node[1-2]", "course")
    assert (found["signal"], found["nice"]) == ("USR2@240", "100")


@pytest.mark.parametrize(("requeue", "option"), [(True, "requeue"), (False, "no-requeue")])
def test_requeue_is_explicit(*, requeue: bool, option: str) -> None:
    assert option in directives(script(profile={"requeue": requeue}))


def step(text: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith("srun "))
    return shlex.split(line)


def test_the_worker_is_a_step_with_the_cores_of_all_that_share_it() -> None:
    packed = Slice(kind="packed", request=SliceRequest(gres="gpu:1"), pack=Pack(workers=3))
    text = script(profile={"cpus": 4, "slice": packed})

    words = step(text)
    assert "--cpus-per-task=12" in words
    assert directives(text)["cpus-per-task"] == "12"
    assert f"python={sys.executable}" in text.splitlines()
    place = words.index("$python")
    expected = ["-P", "-m", "hpc_search", "work", "/scratch/run", "--token", "ex-12345678-0001"]
    assert words[place + 1 :] == expected


@pytest.mark.parametrize(
    ("profile", "learned", "expected"),
    [
        ({"time": 60, "time_min": 20}, {}, ("60", "20", "USR2@120")),
        ({"time": 4}, {}, ("4", None, "USR2@60")),
        ({}, {}, (None, None, "USR2@120")),
        ({"time": -1}, {}, (None, None, "USR2@120")),
        ({}, {"minutes": 6, "minutes_min": 3}, ("6", "3", "USR2@90")),
        ({"time_min": 30}, {"minutes": 6, "minutes_min": 9}, ("6", "6", "USR2@90")),
    ],
)
def test_the_walltime_is_the_one_given_or_learned_or_the_sites(
    profile: dict[str, int], learned: dict[str, int], expected: tuple[str | None, str | None, str]
) -> None:
    found = directives(script(profile=profile, **learned))

    assert (found.get("time"), found.get("time-min"), found["signal"]) == expected


@pytest.mark.parametrize("run", ["/a b/c'd", '/x"y', "/50%j/%a", "/$(id)/`id`;id", "/ü [☃]*#"])
def test_any_path_survives_the_shell(run: str, tmp_path: Path) -> None:
    fake = tmp_path / "srun"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    text = script(run=run, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}", "X": "a'b\n#SBATCH --x"})

    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)

    assert run in done.stdout.splitlines()
    assert directives(text)["chdir"] == run


@pytest.mark.parametrize(
    "paths", [{"run": "/a\n#SBATCH --hold"}, {"run": "/a\\n"}, {"run": "/a", "chdir": "/b\n#SBATCH --hold"}]
)
def test_a_path_that_slurm_would_take_for_another_is_refused(paths: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"has the character .*, and SLURM would take it for another path"):
        script(**paths)


def test_modules_and_prolog_come_before_the_step_and_after_the_environment() -> None:
    text = script(
        profile={"modules": ("cuda/12",), "prolog": ("source env.sh",)}, environment={"LANG": "C.UTF-8"}
    )

    order = [
        text.index(part)
        for part in ("umask 077", "export LANG", "module load cuda/12", "source env.sh", "srun")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("profile", "python"),
    [
        ({}, sys.executable),
        ({"python": "python3.12", "conda": "mine"}, "python3.12"),
        ({"python": "~/env/bin/python"}, f"{Path.home()}/env/bin/python"),
        ({"venv": "/a b"}, '"$VIRTUAL_ENV/bin/python3"'),
        ({"conda": "mine"}, '"$CONDA_PREFIX/bin/python3"'),
        ({"container": ("apptainer", "exec", "a b.sif")}, "python3"),
    ],
)
def test_an_environment_has_its_own_python(profile: dict[str, Any], python: str) -> None:
    lines = script(profile=profile, environment={"VIRTUAL_ENV": "/mine"}).splitlines()

    assert f"python={python}" in lines
    unset = "unset VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV"
    assert (unset in lines) == bool(profile.keys() & {"venv", "conda", "container"})


def test_a_container_stands_between_srun_and_python() -> None:
    words = step(script(profile={"container": ("apptainer", "exec", "--nv", "a b.sif")}))

    place = words.index("apptainer")
    assert words[place - 1].startswith("--")
    assert words[place : place + 5] == ["apptainer", "exec", "--nv", "a b.sif", "$python"]


def run_script(folder: Path, body: str, **profile: Any) -> subprocess.CompletedProcess[str]:
    """Run a script with *body* for srun; a pause is noted instead of waited for."""
    install(folder, "srun", body)
    text = script(profile={"python": "/bin/true", **profile}, environment={"PATH": f"{folder}:/usr/bin:/bin"})
    noted = f'sleep() {{ echo "$1" >>{folder}/paused; }}\n{text}'
    return subprocess.run(["bash", "-c", noted], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "lingers"), [(0, False), (1, True), (75, True), (137, True)])
def test_a_task_that_fails_at_once_stays_for_a_while(tmp_path: Path, status: int, *, lingers: bool) -> None:
    done = run_script(tmp_path, f"exit {status}")

    assert done.returncode == status
    assert (tmp_path / "paused").exists() == lingers
    if lingers:
        assert 15 <= int((tmp_path / "paused").read_text()) <= 30


def test_a_task_that_was_told_to_end_does_not_stay(tmp_path: Path) -> None:
    done = run_script(tmp_path, "kill -TERM $PPID; exit 143")

    assert done.returncode == 143
    assert not (tmp_path / "paused").exists()


def test_a_task_whose_python_is_missing_says_so_and_starts_nothing(tmp_path: Path) -> None:
    done = run_script(tmp_path, f"touch {tmp_path}/started", python="/no/such/python")

    assert done.returncode == 75
    assert "this task cannot start on" in done.stderr
    assert "/no/such/python is missing there" in done.stderr
    assert (tmp_path / "paused").exists()
    assert not (tmp_path / "started").exists()


def test_a_module_that_does_not_load_ends_the_task_with_its_name(tmp_path: Path) -> None:
    install(tmp_path, "module", "echo 'Lmod has detected the following error' >&2; exit 1")

    done = run_script(tmp_path, f"touch {tmp_path}/started", modules=("cuda/99",))

    assert done.returncode == 75
    assert "module load cuda/99 failed" in done.stderr
    assert not (tmp_path / "started").exists()


def test_extra_cannot_take_what_identifies_a_submission() -> None:
    with pytest.raises(UsageError, match="job-name"):
        script(profile={"extra": {"job-name": "mine"}})


def test_sbatch_sees_an_allow_list_without_values_in_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "xyz-value")
    monkeypatch.setenv("WANDB_API_KEY", "abc-value")
    monkeypatch.setenv("SBATCH_JOB_NAME", "other")

    command = sbatch_command(Path("/x.sh"), ("WANDB_API_KEY",))

    assert {"--unset=SECRET_TOKEN", "--unset=SBATCH_JOB_NAME"} <= set(command)
    assert "--unset=WANDB_API_KEY" not in command
    assert not any("-value" in word for word in command)


def test_values_with_secret_names_are_forwarded_and_not_written() -> None:
    environ = {"PATH": "/bin", "MY_TOKEN": "1", "DATA": "/d", "OTHER": "2", "HPC_SEARCH_TRIAL": "{}"}

    assert environment.written(environ, ("MY_TOKEN", "DATA")) == {"PATH": "/bin", "DATA": "/d"}
    assert environment.forwarded(environ, ("MY_TOKEN", "DATA")) == ("MY_TOKEN",)


# -- a fake sbatch on PATH


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def install(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def test_submit_leaves_no_files_and_no_words_on_the_terminal(
    programs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(
        programs, "sbatch", f"env > {tmp_path}/env; umask > {tmp_path}/umask; echo Submitted batch job 17"
    )

    submitted = SlurmLauncher().submit(request(run=str(tmp_path)))

    assert (submitted.jobs[0].id, submitted.jobs[0].tasks) == ("17", 20)
    assert (tmp_path / "umask").read_text().strip() == "0077"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "env", "umask"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            f"echo '{FAILED}Invalid account or account/partition combination specified' >&2; exit 1",
            RefusedError,
        ),
        (f"echo '{FAILED}Unable to contact slurm controller (connect failure)' >&2; exit 1", TemporaryError),
        (f"echo '{FAILED}Socket timed out on send/recv operation' >&2; exit 1", UnclearError),
        ("echo hello", UnclearError),
        ("echo 'an unknown memory of slurm.conf' >&2", UnclearError),
        ("exit 124", UnclearError),
        ("exit 1", UnclearError),
        ("echo 'lua: mind your memory' >&2; kill -SEGV $$", UnclearError),
        ("echo 'sbatch: fatal: Unable to process configuration file' >&2; exit 1", RefusedError),
    ],
)
def test_answers_of_sbatch_are_told_apart(programs: Path, body: str, kind: type[Exception]) -> None:
    install(programs, "sbatch", body)

    with pytest.raises(kind) as caught:
        SlurmLauncher().submit(request())

    assert type(caught.value) is kind


def test_an_sbatch_that_hangs_is_ended_after_its_deadline_and_looked_up(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "sbatch", f"touch {tmp_path}/began; exec sleep 300")
    monkeypatch.setattr(slurm, "SBATCH_TIMEOUT_S", 1)

    with pytest.raises(UnclearError, match="did not answer in time") as caught:
        SlurmLauncher().submit(request())

    assert (tmp_path / "began").exists()
    assert "looks the jobs up by name" in caught.value.hint


def test_a_slurm_conf_that_is_not_there_is_told_before_anything_is_asked(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "sbatch", "exit 0")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))

    with pytest.raises(UsageError, match=r"slurm\.conf, and there is no such file"):
        SlurmLauncher().check()


def test_sbatch_absent_names_the_local_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="--launcher local"):
        SlurmLauncher().check()


def test_script_needs_no_slurm_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "srun" in script()


def test_a_silent_squeue_is_unknown_and_not_empty(programs: Path) -> None:
    install(programs, "squeue", "exit 1")
    launcher = SlurmLauncher(pause=lambda _: None)

    assert launcher.active(["t"]) is None
    with pytest.raises(TemporaryError):
        launcher.find("t")
    with pytest.raises(TemporaryError):
        launcher.cancel(["t"])


def test_absent_is_only_believed_after_two_looks_and_accounting(programs: Path, tmp_path: Path) -> None:
    for name in ("squeue", "sacct"):
        install(programs, name, f'echo "{name} $*" >> {tmp_path}/calls')
    pauses: list[float] = []

    assert SlurmLauncher(pause=pauses.append).find("tok") is None

    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["squeue", "squeue", "sacct"]
    assert all("--name=tok" in call for call in calls)
    assert pauses[1] >= 30


def test_jobs_that_only_accounting_knows_are_found(programs: Path) -> None:
    install(programs, "squeue", "exit 0")
    install(programs, "sacct", "echo 12_0; echo 12_1")

    found = SlurmLauncher(pause=lambda _: None).find("tok")

    assert found is not None
    assert (found.adopted, found.jobs[0].id, found.jobs[0].tasks) == (True, "12", 2)


def test_names_of_states_that_are_unknown_count_as_alive() -> None:
    text = "".join(
        f"7|{number}|{state}|{reason}|lab|normal|low|{name}\n"
        for number, (name, state, reason) in enumerate(
            [
                ("a", "PENDING", "Priority"),
                ("a", "RUNNING", "None"),
                ("a", "BRAND_NEW", "x"),
                ("b|c", "PENDING", "Resources"),
                ("c", "COMPLETING", "None"),
            ]
        )
    )

    assert counted(parse_tasks(f"{text}\n")) == {
        "a": ActiveJobs(1, 2, reasons={"Priority": 1}),
        "b|c": ActiveJobs(1, 0, reasons={"Resources": 1}),
        "c": ActiveJobs(ending=1),
    }


def test_waiting_asks_slurm_rarely_and_ends_with_the_work(programs: Path, tmp_path: Path) -> None:
    install(programs, "squeue", f"echo x >> {tmp_path}/calls; echo 't|RUNNING|None'")
    left = iter([3, 2, 1, 0])
    ticks: list[int] = []

    SlurmLauncher(pause=lambda _: None).wait(lambda: ["t"], lambda: ticks.append(1), lambda: next(left))

    assert len(ticks) == 4
    assert not (tmp_path / "calls").exists()


# -- SLURM's own words, as printed by 22.05


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (
            f"sbatch: error: invalid partition specified: x\n{FAILED}Invalid partition name specified",
            "partition",
        ),
        (f"{FAILED}Invalid account or account/partition combination specified", "account"),
        (f"{FAILED}Invalid qos specification", "qos"),
        ("sbatch: error: Invalid generic resource (gres) specification", "gres"),
        (f"{FAILED}Requested node configuration is not available", "gres"),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "time"),
        ("sbatch: error: Invalid time limit specification", "time"),
        (f"sbatch: error: Memory specification can not be satisfied\n{FAILED}Requested node ...", "mem"),
        (f"{FAILED}Invalid job array specification", "max_array"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{FAILED}{POLICY}", "time"),
        (f"{FAILED}Invalid feature specification", "constraint"),
        (f"{FAILED}Requested reservation is invalid", "reservation"),
        (f"{FAILED}CPU count per node can not be satisfied", "cpus"),
        ("sbatch: unrecognized option '--frobnicate=1'", "extra"),
        ("sbatch: error: something new before sending", "profile"),
        (NO_SOURCE, "SLURM_CONF"),
        (NO_FILE, "SLURM_CONF"),
    ],
)
def test_refusals_quote_slurm_and_name_the_field(words: str, field: str) -> None:
    error = explain(1, words)

    assert isinstance(error, RefusedError)
    assert error.exit_code == 2
    assert words.splitlines()[-1] in str(error)
    assert field in error.hint


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED}{POLICY}", "AssocMaxSubmitJobLimit"),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}{POLICY}", "QOSMaxSubmitJobPerUserLimit"),
        (f"{FAILED}{POLICY}", ""),
    ],
)
def test_a_limit_of_submitted_jobs_is_no_refusal_for_good(words: str, rule: str) -> None:
    error = explain(1, words)

    assert isinstance(error, NoRoomError)
    assert error.rule == rule
    assert "accounting/QOS policy" in error.message


@pytest.mark.parametrize(
    "words",
    [
        f"{FAILED}Resource temporarily unavailable",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "sbatch: error: Munge encode failed: Failed to access socket",
    ],
)
def test_busy_controllers_are_temporary(words: str) -> None:
    error = explain(1, words)

    assert type(error) is TemporaryError
    assert error.exit_code == 75


@pytest.mark.parametrize(
    "words", [f"{FAILED}Brand new error of a later SLURM", f"{FAILED}Zero Bytes were transmitted or received"]
)
def test_failures_that_nobody_knows_are_looked_up(words: str) -> None:
    assert type(explain(1, words)) is UnclearError


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("a|COMPLETED\na|CANCELLED by 1000\n", {"a"}),
        ("a|NODE_FAIL\nb|RUNNING\n", {"a"}),
        ("a|TIMEOUT\na|PENDING\n", set()),
        ("a|SOMETHING_NEW\n", set()),
        ("a|REQUEUED\n", set()),
        ("", set()),
        ("\n|COMPLETED\n", set()),
    ],
)
def test_a_job_has_ended_only_in_final_states_that_are_known(text: str, ended: set[str]) -> None:
    assert slurm.over(text) == ended


def test_accounting_is_asked_for_what_squeue_has_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"squeue": "a|COMPLETED\n", "sacct": "b|FAILED\na|COMPLETED\n"}

    def ask(argv: list[str]) -> str | None:
        asked.append(argv[0])
        return answers[argv[0]]

    monkeypatch.setattr(slurm, "ask", ask)
    assert slurm.SlurmLauncher().ended(["a"]) == {"a"}
    assert asked == ["squeue"]
    assert slurm.SlurmLauncher().ended(["a", "b"]) == {"a", "b"}
    answers["sacct"] = ""
    assert slurm.SlurmLauncher().ended(["a", "b"]) == {"a"}
    monkeypatch.setattr(slurm, "ask", lambda _: None)
    assert slurm.SlurmLauncher().ended(["a", "b"]) == set()


def test_arrays_that_end_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(argv: list[str]) -> str:
        asked.append(argv)
        return ""

    monkeypatch.setattr(control, "ask", ask)
    states = (("1", "COMPLETING"), ("2", "RUNNING"), ("2", "PENDING"))
    tasks = [Task(array, "0", state, "None", Place(), "t") for array, state in states]

    assert control.change(tasks, Profile(throttle=1), Profile(throttle=2)) == [
        "1 array has now at most 2 tasks at once"
    ]
    assert asked == [["scontrol", "update", "JobId=2", "ArrayTaskThrottle=2"]]


def test_an_option_that_sbatch_does_not_know_is_refused_though_it_exits_with_255() -> None:
    found = explain(255, "sbatch: unrecognized option '--frobnicate=1'\nTry \"sbatch --help\"")
    assert isinstance(found, RefusedError)
    assert "`extra`" in found.hint
    assert isinstance(explain(254, "sbatch: unrecognized option"), UnclearError)
