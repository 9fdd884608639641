"""Writes YAML that the readers here read back to the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from hpc_search.config.folds import dump_samples
from hpc_search.config.objectives import dump_budget, dump_objectives
from hpc_search.config.pruning import pruning_plain
from hpc_search.config.scalars import resolve
from hpc_search.config.selection import dump_selection, taken_apart
from hpc_search.records.search import (
    OomRetry,
    Part,
    PruningSpec,
    Retry,
    Search,
    StageSpec,
    StrategySpec,
)
from hpc_search.space import Choice, Dimension, Normal, Normalise, Quantized, Rules, Space

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
#: Plain words that readers of YAML 1.1, PyYAML among them, take for booleans.
_OLD_BOOLEANS: Final = frozenset({"y", "n", "yes", "no", "on", "off"})
#: 1e-05 is a text to readers of YAML 1.1, 1.0e-05 a number to all.
_BARE_EXPONENT: Final = re.compile(r"^(-?[0-9]+)e")
#: Everything that YAML does not print, or takes for a line end.
_ESCAPED: Final = re.compile(
    "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
#: PyYAML looks this far for the colon of a key that is not marked by a question mark.
_LONG_KEY: Final = 900


def flow(value: Any) -> str:
    """Return *value* as YAML on one line; lists and mappings in brackets."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return _BARE_EXPONENT.sub(r"\1.0e", repr(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(flow, value)) + "]"


def block(values: Mapping[str, Any], indent: str = "") -> str:
    """Return *values* as lines ``key: value``."""
    return "".join(
        f"{indent}{_key(key)}{_colon(key, indent)} {flow(value)}\n" for key, value in values.items()
    )


def dump_search(search: Search) -> str:
    """Return the text of search.yaml, which reads back to an equal search; every default is written."""
    head = {"name": search.name}
    if search.description:
        head["description"] = search.description
    own = "" if search.searches else block(_part_keys(search)) + _start(search)
    text = (
        block(head) + own + block(dump_samples(search.data, search.folds) | _rules(search)) + _stages(search)
    )
    if search.searches:
        text += "searches:\n" + "".join(map(_search, search.searches))
    return "# The search as resolved, every default filled in.\n" + text


def _part_keys(search: Search | Part) -> dict[str, Any]:
    """Return the keys of a search that are one line each."""
    objectives = dump_objectives(search.metric, search.objectives)
    strategy = {"strategy": _strategy(search.strategy), **_pruning(search)}
    return {**_trial(search), **objectives, **strategy, **dump_selection(search)}


def _search(part: Part) -> str:
    text = block(_part_keys(part)) + _start(part) + _stages(part)
    return f"  {_key(part.name)}:\n" + "".join(f"    {line}\n" for line in text.splitlines())


def _stages(search: Search | Part) -> str:
    own, _, _ = taken_apart(search)
    rows = [f"  - {flow(_stage(stage) | _pruning(stage, search.pruning))}\n" for stage in own]
    return "".join(["stages:\n", *rows]) if rows else ""


def _stage(stage: StageSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"name": stage.name, "strategy": _strategy(stage.strategy)}
    if stage.fixed:
        found["fixed"] = stage.fixed
    if stage.seeds is not None:
        found["seeds"] = stage.seeds
    if stage.narrow is not None:
        found["narrow"] = {"stage": stage.narrow.stage, "top": stage.narrow.top}
    return found


def _trial(search: Search | Part) -> dict[str, Any]:
    trial = search.trial
    named = {
        "trial": trial.callable,
        "command": trial.command,
        "metric_file": trial.metric_file,
        "files": trial.files,
    }
    return {key: value for key, value in named.items() if value}


def _start(search: Search | Part) -> str:
    """Return the space and the points that come first; of a catalog, its experiments."""
    space = search.space
    if search.strategy.kind != "catalog":
        points = "".join(f"  - {flow(point)}\n" for point in search.given)
        return _space(space) + (f"points:\n{points}" if points else "")
    names = search.strategy.options["names"]
    rows = {
        name: {key: values[place] for group in space.linked for key, values in group.items()}
        for place, name in enumerate(names)
    }
    return block({"catalog": {"experiments": rows}}) + _space(Space({}, (), space.fixed))


def _space(space: Space) -> str:
    text = ""
    for key, value in space_keys(space).items():
        if isinstance(value, Mapping):
            text += f"{key}:\n{block(value, '  ')}"
        else:
            text += f"{key}:\n" + "".join(f"  - {flow(item)}\n" for item in value)
    return text


def space_keys(space: Space) -> dict[str, Any]:
    """Return the keys of a search file that make *space*; those without anything are left out."""
    rules = space.rules if isinstance(space.rules, Rules) else Rules()
    keys = {
        "space": {name: _dimension(value) for name, value in space.dimensions.items()},
        "linked": space.linked,
        "when": rules.when,
        "normalise": {name: _normalise(several) for name, several in rules.normalise.items()},
        "constraints": rules.constraints,
        "derived": rules.derived,
        "fixed": space.fixed,
    }
    return {key: value for key, value in keys.items() if value}


def _dimension(dimension: Dimension) -> Any:
    kind = str(dimension.__struct_config__.tag)
    prior: dict[str, Any] = {}
    match dimension:
        case Choice(values=values, weights=weights):
            return {"choice": values, "weights": weights} if weights else values
        case Normal(mean=mean, sd=sd):
            return {kind: [mean, sd]}
        case _ if dimension.prior is not None:
            prior = {"prior": {"at": dimension.prior.at, "sd": dimension.prior.sd}}
    step = getattr(dimension, "step", 1)
    stepped = isinstance(dimension, Quantized) or step != 1
    return {kind: [dimension.low, dimension.high, *([step] if stepped else [])], **prior}


def _normalise(several: tuple[Normalise, ...]) -> Any:
    return [{"unless" if rule.unless else "if": rule.condition, "to": rule.to} for rule in several]


def _strategy(strategy: StrategySpec) -> Any:
    return {strategy.kind: strategy.options} if strategy.options else strategy.kind


def _pruning(search: Search | Part | StageSpec, above: PruningSpec | None = None) -> dict[str, Any]:
    """Return the rule where it is not the one that stands *above*."""
    if search.pruning == above:
        return {}
    return {"pruning": None if search.pruning is None else pruning_plain(search.pruning)}


def _rules(search: Search) -> dict[str, Any]:
    plain = ("threads", "max_trials", "expect_points", "stop_after", "log_bytes", "save_in_background")
    times = ("heartbeat", "lease", "save_interval", "stall")
    rules: dict[str, Any] = {"retry": _retry(search.retry)}
    rules |= {key: getattr(search, key) for key in (*plain, *times, "keep_checkpoints", "snapshot")}
    rules |= dump_budget(search.budget)
    rules |= {"stop_on_error": True} if search.stop_on_error else {}
    return {key: value for key, value in rules.items() if value is not None}


def _retry(retry: Retry) -> dict[str, Any]:
    plain = ("error", "memory", "timeout", "no_progress")
    rules: dict[str, Any] = {key: getattr(retry, key) for key in plain if getattr(retry, key) is not None}
    return rules if retry.oom is None else {**rules, "oom": _oom(retry.oom)}


def _oom(oom: OomRetry) -> dict[str, Any]:
    return {key: getattr(oom, key) for key in ("halve", "times", "ladder", "text", "codes")}


def _key(key: str) -> str:
    text = _text(key)
    return f"? {text}" if len(text) > _LONG_KEY else text


def _colon(key: str, indent: str) -> str:
    return f"\n{indent}:" if len(_text(key)) > _LONG_KEY else ":"


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(resolve(value), str) and value.lower() not in _OLD_BOOLEANS:
        return value
    return _ESCAPED.sub(_escape, json.dumps(value, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
