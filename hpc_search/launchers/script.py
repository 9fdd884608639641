"""The script of a SLURM task: what sbatch is asked for, and the shell lines around the worker.

Everything that comes from a profile or from the environment is quoted; only `prolog` is shell.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hpc_search.config.problems import shown
from hpc_search.config.profile import Profile
from hpc_search.config.profile_fields import owned_option
from hpc_search.errors import UsageError
from hpc_search.launchers.base import Request, worker
from hpc_search.site.starts import CANNOT_START

#: Of the submitter's own environment: wrong in a task that has another.
_OF_AN_ENVIRONMENT: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
#: A task that cannot work stays for a while before it ends, else a broken node would swallow the array,
#: task after task. Not for long where it was told to end, and never as long as others at the same time.
_FUNCTIONS: Final = (
    "told=",
    "trap 'told=1' TERM  # stay until the step has ended, else its last output is lost",
    'linger() { [ -n "$told" ] || { sleep $((15 + RANDOM % 16)) & wait $!; }; exit "$1"; }',
    f'cannot_start() {{ echo "{CANNOT_START}${{SLURMD_NODENAME:-$(uname -n)}}: $1" >&2; linger 75; }}',
)
#: What would end a line of the script, and with it what no log may be called.
_NO_LINE: Final = re.compile(r"[\x00-\x1f\x7f]")
_NO_LOG: Final = re.compile(r"[\x00-\x1f\x7f\\]")
#: A worker that fails within so many seconds did not work.
_AT_ONCE_S: Final = 20


def parameters(request: Request) -> dict[str, Any]:
    """Return submitit's parameters for *request*. None leaves an option to the site's default."""
    profile = request.profile
    return {
        "job_name": request.token,
        "comment": request.comment or None,
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "exclude": profile.exclude or None,
        "gres": profile.gres or None,
        "time": minutes(request) or None,
        "mem": profile.mem or None,
        "cpus_per_task": cpus(profile),
        "array_parallelism": profile.throttle or request.tasks,
        "signal_delay_s": signal_delay(request),
        "stderr_to_stdout": True,
        "use_srun": False,
        "wckey": None,
        "setup": _setup(request),
        "additional_parameters": _additional(request),
    }


def cpus(profile: Profile) -> int:
    """Return the cores of a task: those of a worker, as often as workers share what the task gets."""
    return profile.cpus * profile.slice.pack.workers


def minutes(request: Request) -> int:
    """Return the walltime asked for, 0 for the site's default: what was learned, else the profile's."""
    return request.minutes or max(0, request.profile.time)


def signal_delay(request: Request) -> int:
    """Return the seconds before the end at which SLURM warns: at most a quarter of the walltime.

    SLURM sends it up to 60 s early; a warning at the start would stop every trial at once.
    """
    walltime, delay = minutes(request), request.profile.signal_delay
    return min(delay, walltime * 15) if walltime else delay


def _time_min(request: Request) -> int:
    least = request.minutes_min or request.profile.time_min
    walltime = minutes(request)
    return min(least, walltime) if walltime else least


def _additional(request: Request) -> dict[str, Any]:
    profile = request.profile
    taken = sorted(filter(owned_option, profile.extra))
    if taken:
        message = f"profile: `extra` has {', '.join(taken)}, which hpc_search sets itself"
        raise UsageError(message, hint="remove it from `extra`")
    _check_paths(request)
    # A percent sign starts a pattern in a file name.
    log = f"{request.run}/submitit/{request.token}_".replace("%", "%%") + "%a.log"
    options = {
        "chdir": request.chdir or request.run,
        "export": "NIL",
        "output": log,
        "requeue" if profile.requeue else "no-requeue": True,
        "reservation": profile.reservation or None,
        "time-min": _time_min(request) or None,
        **profile.extra,
    }
    return {key: value for key, value in options.items() if value not in (None, "", False)}


def _check_paths(request: Request) -> None:
    """Raise UsageError where a path cannot stand in a script; SLURM drops backslashes of a log's name."""
    for path, wrong in ((request.run, _NO_LOG), (request.chdir, _NO_LINE)):
        if found := wrong.search(path):
            message = (
                f"{shown(path)} has the character {found[0]!r}, and SLURM would take it for another path"
            )
            raise UsageError(message, hint="rename the directory, or use `--launcher local`")


def _setup(request: Request) -> list[str]:
    """Return the lines that make the environment: variables, modules, conda or venv, then the user's own."""
    profile = request.profile
    return [
        "umask 077",
        *_FUNCTIONS,
        *_exports(profile, request.environment),
        *_modules(profile.modules),
        *_conda(_home(profile.conda)),
        *_venv(_home(profile.venv)),
        *profile.prolog,
    ]


def _modules(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    loads = [f"module load {shlex.quote(name)} || cannot_start {_no_module(name)}" for name in names]
    return ["type module >/dev/null 2>&1 || . /etc/profile", *loads]


def _no_module(name: str) -> str:
    return shlex.quote(f"module load {name} failed; `module avail` lists the modules of a node")


def _exports(profile: Profile, environment: Mapping[str, str]) -> list[str]:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    own = profile.conda or profile.venv or profile.container
    return [*lines, f"unset {' '.join(_OF_AN_ENVIRONMENT)}"] if own else lines


def _home(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~/") else path


def _conda(environment: str) -> list[str]:
    """Return the lines that activate a conda environment.

    A prefix needs no conda on the node: its programs, and what its packages do at activation. A name is
    found by conda itself, whose shell function a script has to load first.
    """
    if not environment:
        return []
    quoted = shlex.quote(environment)
    if "/" in environment:
        return [
            f'export CONDA_PREFIX={quoted} CONDA_DEFAULT_ENV={quoted} PATH={quoted}/bin:"$PATH"',
            'for hook in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do',
            '    [ ! -r "$hook" ] || . "$hook" >/dev/null',
            "done",
        ]
    return [
        "conda=${CONDA_EXE:-$(type -P conda)}",
        '[ "$(type -t conda)" = function ] || . "${conda%/*/*}/etc/profile.d/conda.sh" >/dev/null 2>&1 ||',
        '    cannot_start "there is no conda: load its module, or write its prefix into conda"',
        f"conda activate {quoted} >/dev/null ||",
        f"    cannot_start {shlex.quote(f'conda has no environment {environment} here')}",
    ]


def _venv(directory: str) -> list[str]:
    quoted = shlex.quote(directory)
    return [f'export VIRTUAL_ENV={quoted} PATH={quoted}/bin:"$PATH"'] if directory else []


def _python(profile: Profile) -> str:
    """Return the interpreter, as a word of the shell; inside of an environment its own python3."""
    if profile.python:
        return shlex.quote(_home(profile.python))
    if profile.container:
        return "python3"
    if profile.venv:
        return '"$VIRTUAL_ENV/bin/python3"'
    return '"$CONDA_PREFIX/bin/python3"' if profile.conda else shlex.quote(sys.executable)


def command(request: Request) -> str:
    """Return the lines that run the worker and say what it died of, if it did so at once.

    It is a step of its own, because only steps get early signals. srun does not take the cores from the
    job (since 22.05).
    """
    profile = request.profile
    step = shlex.join(
        ["srun", "--unbuffered", "--export=ALL", "--input=none", f"--cpus-per-task={cpus(profile)}"]
    )
    inside = [shlex.join(profile.container)] if profile.container else []
    before: list[str] = []
    after: list[str] = []
    if request.command:
        line = [step, *inside, shlex.join(request.command)]
    else:
        _, *options = worker("", request)
        before, line = _startable(profile), [step, *inside, '"$python"', shlex.join(options)]
        importable = " ".join([*inside, '"$python"', "-P -c 'import hpc_search'"])
        after = [
            f"    {importable} >/dev/null 2>&1 ||",
            '        cannot_start "$python cannot import hpc_search: install it there (pip install)"',
        ]
    return "\n".join(
        [
            *before,
            "began=$SECONDS",
            " ".join([*line, "--token", shlex.quote(request.token)]),
            "status=$?",
            f'if [ $status -ne 0 ] && [ -z "$told" ] && [ $((SECONDS - began)) -lt {_AT_ONCE_S} ]; then',
            *after,
            "    linger $status",
            "fi",
            "exit $status",
        ]
    )


def _startable(profile: Profile) -> list[str]:
    """Return the lines that set ``python`` and test what a node may lack, before anything is started."""
    lines = [f"python={_python(profile)}"]
    program, field = (
        ('"$python"', "python") if not profile.container else (shlex.quote(profile.container[0]), "container")
    )
    missing = f"is missing there, or $(id -un) may not execute it: change {field} in the profile"
    lines.append(f'[ -n "$(type -P {program})" ] || cannot_start {program}" {missing}"')
    return lines
