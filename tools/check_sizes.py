"""Files have less than 400 lines, functions at most 50 (median 8 or less): small parts are read and tested.

python tools/check_sizes.py DIRECTORY
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path
from typing import Final

FILE_LINES: Final = 400
FUNCTION_LINES: Final = 50
MEDIAN_LINES: Final = 8


def functions(tree: ast.AST) -> list[tuple[str, int, int]]:
    """Return (name, first line, lines without the docstring) of every function in *tree*."""
    return [
        (node.name, node.lineno, _body_lines(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def main(directory: Path) -> int:
    """Print what is too long; return the exit code."""
    problems, lengths, total = [], [], 0
    for path in sorted(directory.rglob("*.py")):
        text = path.read_text("utf-8")
        lines = text.count("\n")
        total += lines
        if lines >= FILE_LINES:
            problems.append(f"{path}: {lines} lines, must be less than {FILE_LINES}")
        for name, line, length in functions(ast.parse(text)):
            lengths.append(length)
            if length > FUNCTION_LINES:
                problems.append(f"{path}:{line}: {name} has {length} lines, at most {FUNCTION_LINES}")
    median = statistics.median(lengths) if lengths else 0
    if median > MEDIAN_LINES:
        problems.append(f"{directory}: the median function has {median:g} lines, at most {MEDIAN_LINES}")
    for problem in problems:
        print(problem)
    longest = max(lengths, default=0)
    print(f"{total} lines, {len(lengths)} functions, median {median:g} lines, longest {longest}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
