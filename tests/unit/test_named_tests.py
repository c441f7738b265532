"""A promise is as good as the test that is named beside it: each test that the documents name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "SECURITY.md")


def named(text: str) -> Iterator[tuple[str, str]]:
    """Path (a glob, or the mere name of a file) and function, in the order of the text; `::name` is of the path before it."""
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
def test_every_test_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(list(named(text))) > 10
    assert missing(text) == []


def test_one_that_is_not_there_is_missed() -> None:
    text = "`tests/unit/test_named_tests.py::test_no`, `::test_one_that_is_not_there_is_missed`, `test_nowhere.py`, `tests/none/`"
    assert missing(text) == ["tests/unit/test_named_tests.py::test_no", "test_nowhere.py::", "tests/none/::"]
