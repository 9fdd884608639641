"""Says in words, with line and column, why a text is not YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from hpc_search.config.problems import shown

if TYPE_CHECKING:
    from hpc_search.config.problems import Book

#: A part of PyYAML's words -> what to say, and what to change.
_WORDS: Final[tuple[tuple[str, str, str], ...]] = (
    ("found character '\\t'", "a tab stands where YAML allows only spaces", "indent with spaces"),
    (
        "mapping values are not allowed",
        "a colon stands where no key can be",
        "quote a text with ': ' in it, or fix the indentation",
    ),
    (
        "expected ',' or ']'",
        "a list that begins with '[' is not closed",
        "close it with ']'; put ',' between the values",
    ),
    (
        "expected ',' or '}'",
        "a mapping that begins with '{' is not closed",
        "close it with '}'; put ',' between the entries",
    ),
    ("could not find expected ':'", "a key is not followed by ':'", "write `key: value`"),
    ("found unexpected end of stream", "a quoted text is not closed", "add the closing quote"),
    ("found undefined alias", "an alias names no anchor before it", ""),
    (
        "that cannot start any token",
        "a text begins with a character that is special in YAML",
        "put the text in quotes",
    ),
    (
        "unknown escape character",
        "a backslash begins no escape that YAML knows",
        "use single quotes, or write \\\\",
    ),
    (
        "expected <block end>",
        "the indentation does not fit the lines before",
        "indent keys of one mapping equally",
    ),
)


def explain(error: Exception, text: str, book: Book) -> NoReturn:
    """Refuse the file for PyYAML's *error* about *text*."""
    import yaml

    if isinstance(error, yaml.MarkedYAMLError):
        _marked(error, text, book)
    position = getattr(error, "position", None)
    if isinstance(position, int):
        line = text.count("\n", 0, position) + 1
        character = f"the character U+{ord(text[position : position + 1] or chr(0)):04X}"
        book.refuse(line, "not valid YAML: a control character", found=character, hint="remove it")
    book.refuse(
        0, f"not valid YAML: {str(error)[:100]}", hint="an escape or directive has a number out of range"
    )


def _marked(error: object, text: str, book: Book) -> NoReturn:
    said = str(getattr(error, "problem", "") or getattr(error, "context", "") or "syntax error")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    message, hint = next(((says, then) for part, says, then in _WORDS if part in said), (said, ""))
    context = getattr(error, "context_mark", None)
    if context is not None and context.line + 1 < line:
        message += f" (it began on line {context.line + 1})"
    lines = text.splitlines()
    found = shown(lines[line - 1].strip()) if 0 < line <= len(lines) else "the end of the file"
    book.refuse(line, f"not valid YAML, line {line}, column {column}: {message}", found=found, hint=hint)
