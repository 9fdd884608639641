"""No field of a profile but `prolog` brings a line, an option or a command into the script of a task."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from contextlib import suppress
from itertools import product, takewhile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search.config.profile import Profile, profile_with
from hpc_search.config.profile_fields import FIELDS
from hpc_search.errors import UsageError
from hpc_search.launchers.base import Request
from hpc_search.launchers.slurm import SlurmLauncher

#: What would be seen: a command that leaves a file, a directive, an end of a quotation.
HOSTILE = (
    *("\n", "\r", "\u2028", "\v", "\0", ";", "&", "|", "'", '"', "\\", "`", " ", "#", "%", "!", "~", "*"),
    *(
        "$(touch seen)",
        "`touch seen`",
        "; touch seen;",
        "\ntouch seen\n",
        "' ; touch seen ; '",
        '"; touch seen; "',
    ),
    *(
        "\n#SBATCH --wrap=x",
        " --wrap=x",
        "--wrap=x",
        "$python",
        "${IFS}",
        "a",
        "0",
        "/",
        ",",
        ":",
        "=",
        "[",
        "]",
    ),
)
VALUES = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=3), max_size=6).map("".join)
PLACES = VALUES.map(lambda text: f"/{text}")
LISTS = st.lists(VALUES, max_size=3).map(json.dumps)
KEYS = st.sampled_from(sorted({*FIELDS, "extra.nice", "extra.x"} - {"prolog", "container", "venv", "conda"}))
#: One environment at a time is allowed.
ENVIRONMENTS = st.sampled_from(["container", "venv", "conda"])
ASSIGNMENTS = st.tuples(
    st.lists(st.tuples(KEYS, VALUES | PLACES | LISTS), max_size=4),
    st.tuples(ENVIRONMENTS, PLACES | LISTS | VALUES),
)
OPTIONS = frozenset(
    (
        *("array", "chdir", "cpus-per-task", "export", "gres", "job-name", "nodes", "open-mode", "output"),
        *("requeue", "no-requeue", "signal", "partition", "account", "qos", "constraint", "exclude", "mem"),
        *("time", "time-min", "reservation", "nice", "x"),
    )
)


#: In place of programs, which a PATH from the profile could bring back.
FUNCTIONS = "srun() { :; }; sleep() { :; }; conda() { :; }; module() { :; }\n"


def check(profile: Profile) -> None:
    """Render the script of *profile* and run it: nothing but its own options and commands is in it."""
    environment = {"PATH": "/usr/bin:/bin"}
    text = SlurmLauncher().script(
        Request(run="/run", token="t-1", tasks=2, profile=profile, environment=environment)
    )

    head = takewhile(lambda line: line.startswith("#") or not line, text.split("\n"))
    directives = [shlex.split(line.removeprefix("#SBATCH ")) for line in head if line.startswith("#SBATCH")]
    assert all(len(words) == 1 for words in directives), text
    assert {words[0].removeprefix("--").partition("=")[0] for words in directives} <= OPTIONS, text
    assert len([line for line in text.split("\n") if line.startswith("#SBATCH")]) == len(directives), text
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["bash", "-c", f"{FUNCTIONS}. /dev/stdin"],
            input=text,
            text=True,
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert list(Path(folder).iterdir()) == [], text


def test_no_field_takes_a_command_or_an_option_for_its_value() -> None:
    paths = sorted({*FIELDS, "extra.nice", "extra.x", "extra"} - {"prolog"})
    taken = set()
    for path, piece in product(paths, HOSTILE):
        for value in (piece, f"/{piece}b", json.dumps([f"a{piece}"])):
            with suppress(UsageError):
                check(profile_with(Profile(), ["gres=gpu:1", f"{path}={value}"]))
                taken.add(path)
    assert {"python", "conda", "venv", "container", "slice.expect.name"} <= taken


@settings(max_examples=150, deadline=None)
@given(ASSIGNMENTS)
def test_no_fields_together_bring_anything_into_the_script(
    drawn: tuple[list[tuple[str, str]], tuple[str, str]],
) -> None:
    fields, environment = drawn
    profile = Profile()
    for key, value in [*fields, environment]:
        with suppress(UsageError):
            profile = profile_with(profile, [f"{key}={value}"])
    check(profile)
