"""The rules of a space: when a parameter is there, what is normalised, what is derived, what is excluded.

Every parameter has one final value, and all rules see the final values of the others: whether a parameter is
there is decided first, then its own normalisation, in the order of the rules that need each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec.structs import force_setattr

from hpc_search.space.canonical import canonical
from hpc_search.space.expressions import Expression, parse
from hpc_search.space.operations import NOT_APPLICABLE, Env, Evaluate, ExpressionError
from hpc_search.space.words import told

#: Whole numbers that a derived value may have: those of a plan's JSON.
_MOST: Final = 2**63


class Normalise(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where ``condition`` holds (or, with ``unless``, does not hold), the value becomes ``to``."""

    condition: str
    to: Any
    unless: bool = False

    def __post_init__(self) -> None:
        """Check the value."""
        canonical(self.to)


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rules as written: expressions by the parameter they are about; constraints stand alone."""

    when: dict[str, str] = {}
    constraints: tuple[str, ...] = ()
    derived: dict[str, str] = {}
    normalise: dict[str, tuple[Normalise, ...]] = {}

    def __post_init__(self) -> None:
        """Keep lists as tuples."""
        force_setattr(self, "constraints", tuple(self.constraints))
        force_setattr(self, "normalise", {name: tuple(rules) for name, rules in self.normalise.items()})


class Fault(NamedTuple):
    """Why the rule at ``path`` of a search file cannot be used."""

    path: str
    message: str
    expected: str = ""
    hint: str = ""


class Excluded(NamedTuple):
    """A combination that is no point: ``path`` of the constraint that does not hold, for these values."""

    path: str
    values: dict[str, Any]

    @property
    def text(self) -> str:
        """The values in a few words."""
        return told(self.values)


class Change(NamedTuple):
    """One rule of ``normalise``, parsed."""

    condition: Expression
    to: Any
    unless: bool


class Step(NamedTuple):
    """The rules of one kind about ``target`` ("" for a constraint); they need ``needs`` in final form."""

    path: str
    kind: Literal["when", "normalise", "derived", "constraint"]
    target: str
    #: The parameters that are named, in order, the target itself included.
    names: tuple[str, ...]
    needs: frozenset[str]
    evaluate: Evaluate
    #: Whether it divides by what depends on a parameter.
    divides: bool = False
    changes: tuple[Change, ...] = ()

    def apply(self, env: dict[str, Any]) -> bool:
        """Change *env* as the rule says; return whether it holds, or was applied.

        Raises:
            ExpressionError: It has no value for these parameters.
        """
        if self.kind == "normalise":
            return self._normalised(env)
        value = self.evaluate(env)
        if self.kind == "constraint":
            return value is NOT_APPLICABLE or bool(value)
        if self.kind == "when":
            if value is NOT_APPLICABLE or not value:
                env[self.target] = NOT_APPLICABLE
                return False
            return True
        env[self.target] = None if value is NOT_APPLICABLE else _kept(value)
        return True

    def _normalised(self, env: dict[str, Any]) -> bool:
        """Apply the changes until none applies any more: what was normalised stays as it is."""
        before = env[self.target]
        for _ in range(len(self.changes) + 1):
            for change in self.changes:
                if _applies(change, env, self.target):
                    env[self.target] = change.to
                    break
            else:
                return env[self.target] is not before
        raise ExpressionError("the rules change the value round in a circle", "let one rule end at its value")


def _applies(change: Change, env: dict[str, Any], target: str) -> bool:
    if env[target] is NOT_APPLICABLE:
        return False
    value = change.condition.evaluate(env)
    if value is NOT_APPLICABLE or bool(value) is change.unless:
        return False
    return not _equal(env[target], change.to)


def _equal(one: object, other: object) -> bool:
    if one is None or other is None or one.__class__ is other.__class__ is int:
        return one == other
    return canonical(one) == canonical(other)


def _kept(value: Any) -> Any:
    if isinstance(value, int) and not -_MOST <= value < _MOST:
        raise ExpressionError(
            "a derived value is too large", "whole numbers are between -2**63 and 2**63 - 1"
        )
    return value


class Logic:
    """The rules of a space, parsed and in the order in which they are applied.

    Raises:
        ValueError: A rule cannot be used; the first one is named.
    """

    def __init__(self, rules: Rules, searched: Collection[str], fixed: Collection[str]) -> None:
        """Parse *rules* about the *searched* and the *fixed* parameters."""
        steps, faults = _parsed(rules, searched, fixed)
        if faults:
            raise ValueError(f"{faults[0].path}: {faults[0].message}")
        self.derived = tuple(rules.derived)
        self.constraints = tuple(step for step in steps if step.kind == "constraint")
        self.by_target: dict[str, list[Step]] = _by_target(steps)
        order = _ordered(self.by_target)
        self.decisions = tuple(step for name in order for step in self.by_target[name])
        self.conditional = tuple(rules.when)

    def settle(self, env: dict[str, Any]) -> Step | None:
        """Give every parameter in *env* its final value; return the constraint that excludes it, if one does.

        Raises:
            ExpressionError: A rule has no value for these parameters; its path is in the message.
        """
        step = None
        try:
            for step in self.decisions:
                step.apply(env)
            for step in self.constraints:
                if not step.apply(env):
                    return step
        except ExpressionError as error:
            where = f"{step.path}: " if step is not None else ""
            raise ExpressionError(f"{where}{error}", error.hint) from None
        return None

    def holds(self, name: str, env: dict[str, Any]) -> bool:
        """Return whether the condition of *name*, which has one, holds for these final values."""
        return self.by_target[name][0].apply(env)

    def inputs(self, names: Collection[str]) -> frozenset[str]:
        """Return *names* with each derived value replaced by what it is made from."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in self.derived:
                todo += self.by_target[name][0].needs
            else:
                found.add(name)
        return frozenset(found)

    def implied(self) -> dict[str, tuple[str, ...]]:
        """Return, by name, the parameters that count as read with it.

        Those that a derived value is made from, and those that decide whether a parameter is there.
        """
        implied: dict[str, frozenset[str]] = {}
        # Each stands after what it needs, so that a condition brings along those of its own names.
        for step in self.decisions:
            if step.kind in ("derived", "when"):
                inputs = self.inputs(step.needs)
                implied[step.target] = inputs.union(*(implied.get(name, ()) for name in inputs))
        return {name: tuple(sorted(names)) for name, names in implied.items()}


def _by_target(steps: list[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        if step.target:
            found.setdefault(step.target, []).append(step)
    return found


def _ordered(by_target: Mapping[str, list[Step]]) -> list[str]:
    """Return the targets, each after those that its rules need; there is no cycle."""
    order: dict[str, None] = {}
    for target in by_target:
        # A stack of its own: a chain of rules may be longer than Python's.
        stack = [(target, iter(_needed(by_target, target)))]
        while stack:
            name, needs = stack[-1]
            below = next((need for need in needs if need not in order), None)
            if below is None:
                order[name] = None
                stack.pop()
            else:
                stack.append((below, iter(_needed(by_target, below))))
    return list(order)


def _needed(by_target: Mapping[str, list[Step]], name: str) -> list[str]:
    names = {need for step in by_target[name] for need in step.needs if need in by_target}
    # Sets iterate as the hash seed says.
    return sorted(names)


def faults(rules: Rules, searched: Collection[str], fixed: Collection[str]) -> list[Fault]:
    """Return everything that is wrong with *rules* in themselves, in the order of the kinds."""
    return _parsed(rules, searched, fixed)[1]


def _parsed(
    rules: Rules, searched: Collection[str], fixed: Collection[str]
) -> tuple[list[Step], list[Fault]]:
    steps: list[Step] = []
    found: list[Fault] = list(_targets(rules, searched, fixed))
    known = dict.fromkeys((*searched, *fixed, *rules.derived))
    for path, kind, target, text in _written(rules):
        expression = _expression(path, target, text, known, found)
        if expression is not None:
            needs = frozenset(expression.names)
            evaluate, divides = expression.evaluate, expression.divides
            steps.append(Step(path, kind, target, expression.names, needs, evaluate, divides))
    for name, several in rules.normalise.items():
        paths = [
            rule_path("normalise", name, place if several[1:] else None) for place in range(len(several))
        ]
        parsed = [
            (_expression(path, "", rule.condition, known, found), rule)
            for path, rule in zip(paths, several, strict=True)
        ]
        changes = tuple(Change(one, rule.to, rule.unless) for one, rule in parsed if one is not None)
        names = tuple(dict.fromkeys(used for change in changes for used in change.condition.names))
        needs = frozenset(names) - {name}
        path = rule_path("normalise", name)
        steps.append(Step(path, "normalise", name, names, needs, _nothing, changes=changes))
    found += _cycles(steps)
    return steps, found


def _nothing(_: Env) -> Any:
    return None


def _expression(
    path: str, target: str, text: str, known: Collection[str], found: list[Fault]
) -> Expression | None:
    try:
        expression = parse(text)
    except ExpressionError as error:
        found.append(Fault(path, str(error), hint=error.hint))
        return None
    wrong = [_unknown(path, name, known) for name in expression.names if name not in known]
    if target in expression.names:
        wrong.append(Fault(path, f"{target!r} depends on itself", expected="other parameters"))
    found += wrong
    return None if wrong else expression


_Written = tuple[str, Literal["when", "derived", "constraint"], str, str]


def _written(rules: Rules) -> Iterator[_Written]:
    for name, text in rules.when.items():
        yield rule_path("when", name), "when", name, text
    for name, text in rules.derived.items():
        yield rule_path("derived", name), "derived", name, text
    for place, text in enumerate(rules.constraints):
        yield rule_path("constraints", "", place), "constraint", "", text


def rule_path(key: str, name: str, place: int | None = None) -> str:
    """Return the path of a rule in a search file: ``when.momentum``, ``constraints[0]``."""
    return f"{key}{f'.{name}' if name else ''}{'' if place is None else f'[{place}]'}"


def _targets(rules: Rules, searched: Collection[str], fixed: Collection[str]) -> Iterator[Fault]:
    for key, names in (("when", rules.when), ("normalise", rules.normalise)):
        for name in names:
            if name in fixed:
                yield Fault(
                    f"{key}.{name}",
                    f"{name!r} is fixed, and a fixed value is always there as it is",
                    expected="a parameter under `space` or `linked`",
                    hint="remove the rule, or make a list of its values under `space`",
                )
            elif name in rules.derived:
                hint = "write the condition into its expression: `a if condition else null`"
                yield Fault(f"{key}.{name}", f"{name!r} is derived", "a parameter under `space`", hint)
            elif name not in searched:
                yield _unknown(f"{key}.{name}", name, searched)
    for name in rules.derived:
        if name in searched or name in fixed:
            place = "`space`" if name in searched else "`fixed`"
            yield Fault(
                f"derived.{name}",
                f"the name {name!r} is taken: it also stands under {place}",
                expected="a new name",
                hint="give the derived value a name of its own",
            )


def _unknown(path: str, name: str, known: Collection[str]) -> Fault:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    inside = [one for one in known if one.startswith(f"{name}.")]
    message = f"unknown parameter {name[:60]!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if inside:
        message = f"{name!r} is a group, not a parameter; it has {', '.join(inside[:5])}"
    listed = ", ".join([*known][:20]) + (", ..." if len(known) > 20 else "")
    return Fault(path, message, expected=f"one of: {listed}" if known else "a parameter")


def _cycles(steps: list[Step]) -> Iterator[Fault]:
    """Yield one fault for each cycle of targets that need each other."""
    by_target = _by_target(steps)
    state: dict[str, int] = {}
    for start in by_target:
        path: list[str] = []
        stack = [(start, iter(_needed(by_target, start)))] if start not in state else []
        while stack:
            name, needs = stack[-1]
            if state.setdefault(name, 1) == 1 and (not path or path[-1] != name):
                path.append(name)
            below = next(needs, None)
            if below is None:
                state[name] = 2
                stack.pop()
                path.pop()
            elif state.get(below) == 1:
                chain = [*path[path.index(below) :], below]
                rule = by_target[name][0]
                message = f"the rules go round in a circle: {' needs '.join(map(repr, chain))}"
                hint = "let one of them depend on none of the others"
                yield Fault(rule.path, message, expected="rules that need no result of their own", hint=hint)
            elif below not in state:
                stack.append((below, iter(_needed(by_target, below))))
