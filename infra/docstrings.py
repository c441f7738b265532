"""`python -m infra.docstrings`: refuses docstrings that open with a riddle (part of `make lint`).

A docstring that begins with What, Who, Of or Those makes its reader solve a sentence before it names its
subject.
The check reads docstrings of modules, classes, functions and attributes in every Python file that git knows.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
REFUSED: Final = re.compile(r"(?:What|Whatever|Who|Whoever|Whose|Of|Those)\b")


def refused(source: str) -> Iterator[tuple[int, str]]:
    """`(line, opening)` of each docstring of `source` that opens with a refused word.

    Raises: `SyntaxError` when `source` is not Python.
    """
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if REFUSED.match(text.strip()):
                    yield statement.lineno, text.strip().partition("\n")[0]


def main() -> int:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    found = [
        f"{name}:{line}: a docstring does not open with {opening.split()[0]!r}: {opening}"
        for name in names
        if (ROOT / name).exists()
        for line, opening in refused((ROOT / name).read_text(encoding="utf-8"))
    ]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
