"""Each test that README.md and SECURITY.md name as proof of a promise exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "SECURITY.md")


def named(text: str) -> Iterator[tuple[str, str]]:
    """Path (a glob, or a file name alone) and function, in the order of the text; `::name` belongs to the
    path before it."""
    path = ""
    for found in re.findall(r"`([^`\s]*)`", text):
        head, _, function = found.partition("::")
        if head.startswith("tests/") or re.fullmatch(r"test_\w+\.py", head):
            path = head
        elif head or not function:
            continue
        yield path, function


def missing(text: str) -> list[str]:
    lost = []
    for path, function in named(text):
        files = list(ROOT.glob(path)) if path.startswith("tests/") else list(ROOT.glob(f"tests/**/{path}"))
        functions = [f for f in files if not function or f"def {function}(" in f.read_text(encoding="utf-8")]
        if not functions:
            lost.append(f"{path}::{function}")
    return lost


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_named_in_a_document_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(list(named(text))) > 10
    assert missing(text) == []


def test_a_missing_test_is_found() -> None:
    text = (
        "`tests/unit/test_named_tests.py::test_no`, `::test_a_missing_test_is_found`, "
        "`test_nowhere.py`, `tests/none/`"
    )
    assert missing(text) == ["tests/unit/test_named_tests.py::test_no", "test_nowhere.py::", "tests/none/::"]
