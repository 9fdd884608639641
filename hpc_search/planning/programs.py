"""What a search runs, found without importing it: its functions and programs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from hpc_search.errors import UsageError
from hpc_search.planning import code
from hpc_search.records.search import Part

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def check_programs(part: Part, base: Path) -> None:
    """Look for what the trials of *part*, and its test, run, without importing it.

    Raises:
        UsageError: It is not there, or cannot be what is meant.
    """
    if part.trial.callable:
        _check_function(part.trial.callable, f"{_of(part)}trial", base)
    else:
        _check_placeholders(part)
        _check_command(part.trial.command, f"{_of(part)}command", base)
    if part.test is not None and part.test.callable:
        _check_function(part.test.callable, f"{_of(part)}test", base)
    elif part.test is not None:
        _check_command(part.test.command, f"{_of(part)}test_command", base)


def _check_function(what: str, key: str, base: Path) -> None:
    file = base / what.rpartition(":")[0]
    if file.suffix == ".py" and not file.is_file():
        hint = "the path is relative to the search file"
        if (base / "plan.json").is_file():
            hint += "; that of a run is planned again after copying it to where the code is"
        raise UsageError(f"{key}: there is no file {file}", hint=hint)
    reference = code.parse_reference(what)
    try:
        source = code.find_source(reference, base)
        if source is not None:
            code.check_function(reference, source)
    except UsageError as error:
        if key == "trial":
            raise
        raise UsageError(f"{key}: {error.message}", hint=error.hint) from None


def _of(part: Part) -> str:
    return f"searches.{part.name}." if part.name else ""


def _check_command(command: tuple[str, ...], key: str, base: Path) -> None:
    program = command[0]
    if "{" in program:
        return
    place = str(base / program) if "/" in program else program
    if shutil.which(place):
        return
    beside = (base / program).is_file()
    if beside and "/" in program:
        message = f"{key}: {place} is not executable"
        raise UsageError(message, hint=f"`chmod +x {program}`, or name its interpreter: [python, {program}]")
    raise UsageError(
        f"{key}: the program {program!r} is not found {'here' if '/' in program else 'on PATH'}",
        hint=f"write ./{program} for the one beside the search file"
        if beside
        else "give a full path, or install it; on the nodes it must be found as well",
    )


def _check_placeholders(part: Part) -> None:
    """Refuse a command that takes some parameters as arguments and forgets one that varies."""
    used = {name for text in part.trial.command for name in _PLACEHOLDER.findall(text)}
    varied = part.space.varied
    used |= {name for one in used for name in part.space.implied.get(one, ())}
    missing = [name for name in varied if name not in used]
    if not missing or not used.intersection(varied):
        # Without any placeholder the program reads HPC_SEARCH_TRIAL.
        return
    names = ", ".join(map(repr, missing))
    raise UsageError(
        f"{_of(part)}command: the search varies {names}, but no argument uses it: "
        "its values would all be equal",
        hint=f"add an argument such as --{missing[0]}={{{missing[0]}}}, or fix the parameter",
    )
