"""Expressions over parameters: a part of Python's, parsed by ``ast`` into closures; nothing is ever eval'd.

Null or absent in arithmetic or in an ordering gives `NOT_APPLICABLE`, and so does an absent parameter
anywhere; ``and``, ``or`` and ``not`` treat it as unknown. What that means is up to the rule.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from hpc_search.space.operations import (
    BINARY,
    NOT_APPLICABLE,
    Env,
    Evaluate,
    ExpressionError,
    arithmetic,
    bounded,
    chained,
    comparison,
    negation,
    power,
)

MOST_CHARACTERS: Final = 2000
MOST_DEPTH: Final = 40


class Expression(NamedTuple):
    """A parsed text; ``names`` are the parameters in it, in order; ``evaluate`` takes their values.

    ``divides`` tells whether it divides by, or raises to, something that depends on a parameter.
    """

    text: str
    names: tuple[str, ...]
    evaluate: Evaluate
    divides: bool


class _Part(NamedTuple):
    """A compiled node and whether its value depends on no parameter."""

    evaluate: Evaluate
    constant: bool


def parse(text: str) -> Expression:
    """Return the expression *text*.

    Raises:
        ExpressionError: It is too long or too deep, no Python, or uses more than the allowed part.
    """
    if len(text) > MOST_CHARACTERS:
        message = f"the expression has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed"
        raise ExpressionError(message, "split it into several constraints or derived values")
    plain, quoted = _unquoted(text)
    compiler = _Compiler(plain, quoted)
    part = compiler.part(_tree(plain), 0)
    return Expression(text, tuple(compiler.names), part.evaluate, compiler.divides)


def names_in(text: str) -> tuple[str, ...] | None:
    """Return the parameters in the expression *text*, None where it is none."""
    try:
        return parse(text).names
    except ExpressionError:
        return None


#: Strings stay as they are; what stands in backquotes is a name.
_QUOTED: Final = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`([^`]+)`", re.DOTALL)


def _unquoted(text: str) -> tuple[str, dict[str, str]]:
    """Return *text* on one line, with an identifier for each name in backquotes, and what they stand for."""
    names: dict[str, str] = {}

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        name = f"_quoted_{len(names)}"
        names[name] = match[1]
        return name

    return _QUOTED.sub(replaced, " ".join(text.split("\n"))).strip(), names


def quoted(name: str) -> str:
    """Return *name* as an expression has it: as it is, or in backquotes."""
    import keyword

    plain = all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))
    return name if plain and name not in _CONSTANTS else f"`{name}`"


def _tree(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text, mode="eval").body
        except SyntaxError as error:
            place = f" at character {error.offset}" if error.offset else ""
            raise ExpressionError(f"is no expression: {error.msg}{place}", _hint(text)) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"is no expression: {str(error) or 'nested too deeply'}") from None


def _hint(text: str) -> str:
    if "&&" in text or "||" in text:
        return "write `and`, `or` and `not`"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return "two sides are compared by =="
    return 'such as "optimizer == \'sgd\'" or "layers * width <= 256"'


_CONSTANTS: Final = {"null": None, "true": True, "false": False}
_WORDS: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Call: ("a call", "functions cannot be used; write it out with + - * / // % **"),
    ast.Attribute: ("an attribute", "only names of parameters have dots, such as head.layers"),
    ast.Subscript: ("a subscript", "values cannot be taken apart; make a parameter of what is needed"),
    ast.Lambda: ("a lambda", "write an expression over the parameters"),
    ast.NamedExpr: ("an assignment", "two sides are compared by =="),
    ast.JoinedStr: ("an f-string", "texts are joined by +"),
    ast.BinOp: ("this operator", "allowed are + - * / // % ** and the words and, or, not, in"),
    ast.UnaryOp: ("this operator", "allowed are + - * / // % ** and the words and, or, not, in"),
    ast.Compare: ("`is`", "write == null or != null"),
}


class _Compiler:
    """Turns the nodes of one expression into closures; constant parts are computed at once."""

    def __init__(self, text: str, quoted_names: Mapping[str, str]) -> None:
        self._text = text
        self._quoted = quoted_names
        self.names: dict[str, None] = {}
        self.divides = False

    def part(self, node: ast.expr, depth: int) -> _Part:
        if depth > MOST_DEPTH:
            raise ExpressionError(
                f"is nested deeper than {MOST_DEPTH} levels", "split it into several derived values"
            )
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BinOp():
                return self._binary(node, depth)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BoolOp():
                return self._bool(node, depth)
            case ast.Compare():
                return self._compare(node, depth)
            case ast.IfExp():
                return self._choice(node, depth)
            case ast.List() | ast.Tuple():
                return self._list(node, depth)
        return self._refuse(node)

    def _refuse(self, node: ast.expr) -> NoReturn:
        word, hint = _WORDS.get(
            type(node), ("this", "allowed are numbers, texts, lists, names and operators")
        )
        found = ast.get_source_segment(self._text, node) or ""
        raise ExpressionError(f"{word} is not allowed in an expression: {found[:60]!r}", hint)

    def _constant(self, node: ast.Constant) -> _Part:
        value = node.value
        if not (value is None or isinstance(value, bool | int | float | str)):
            self._refuse(node)
        return _constant(bounded(value))

    def _name(self, node: ast.Name | ast.Attribute) -> _Part:
        name = self._dotted(node)
        if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        self.names[name] = None
        return _Part(operator.itemgetter(name), constant=False)

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self._quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        if isinstance(node, ast.Call):
            self._refuse(node)
        raise ExpressionError(*_not_allowed(_WORDS[ast.Attribute]))

    def _folded(self, evaluate: Evaluate, parts: Iterable[_Part]) -> _Part:
        if all(part.constant for part in parts):
            return _constant(evaluate({}))
        return _Part(evaluate, constant=False)

    def _binary(self, node: ast.BinOp, depth: int) -> _Part:
        left, right = self.part(node.left, depth + 1), self.part(node.right, depth + 1)
        raises = isinstance(node.op, ast.Pow)
        apply = power if raises else BINARY.get(type(node.op))
        if apply is None:
            self._refuse(node)
        if raises or isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod):
            self.divides |= not right.constant
        joins = isinstance(node.op, ast.Add)
        return self._folded(arithmetic(left.evaluate, right.evaluate, apply, joins=joins), (left, right))

    def _unary(self, node: ast.UnaryOp, depth: int) -> _Part:
        inner = self.part(node.operand, depth + 1)
        match node.op:
            case ast.Not():
                return self._folded(negation(inner.evaluate), (inner,))
            case ast.USub():
                minus = arithmetic(_constant(0).evaluate, inner.evaluate, lambda _, value: -value)
                return self._folded(minus, (inner,))
            case ast.UAdd():
                plus = arithmetic(_constant(0).evaluate, inner.evaluate, lambda _, value: +value)
                return self._folded(plus, (inner,))
        return self._refuse(node)

    def _bool(self, node: ast.BoolOp, depth: int) -> _Part:
        parts = [self.part(value, depth + 1) for value in node.values]
        decisive = isinstance(node.op, ast.Or)
        return self._folded(chained([part.evaluate for part in parts], decisive=decisive), parts)

    def _compare(self, node: ast.Compare, depth: int) -> _Part:
        parts = [self.part(value, depth + 1) for value in (node.left, *node.comparators)]
        tests = []
        for op, left, right in zip(node.ops, parts, parts[1:], strict=False):
            tests.append(comparison(type(op), left.evaluate, right.evaluate) or self._refuse(node))
        return self._folded(tests[0] if len(tests) == 1 else chained(tests, decisive=False), parts)

    def _choice(self, node: ast.IfExp, depth: int) -> _Part:
        parts = [self.part(value, depth + 1) for value in (node.test, node.body, node.orelse)]
        test, yes, no = (part.evaluate for part in parts)

        def chosen(env: Env) -> Any:
            decided = test(env)
            if decided is NOT_APPLICABLE:
                return NOT_APPLICABLE
            return yes(env) if decided else no(env)

        return self._folded(chosen, parts)

    def _list(self, node: ast.List | ast.Tuple, depth: int) -> _Part:
        parts = [self.part(value, depth + 1) for value in node.elts]
        inner = [part.evaluate for part in parts]

        def listed(env: Env) -> Any:
            values = [evaluate(env) for evaluate in inner]
            return NOT_APPLICABLE if any(value is NOT_APPLICABLE for value in values) else values

        return self._folded(listed, parts)


def _not_allowed(words: tuple[str, str]) -> tuple[str, str]:
    return f"{words[0]} is not allowed in an expression", words[1]


def _constant(value: object) -> _Part:
    return _Part(lambda _: value, constant=True)
