"""The docstring check finds each kind of docstring, and nothing else."""

from __future__ import annotations

import pytest

from infra.docstrings import refused


@pytest.mark.parametrize(
    "source",
    [
        '"""What this module is."""',
        'class A:\n    """Who calls."""',
        'def f():\n    """Of each, the first."""',
        'async def f():\n    """\n    Those that match."""',
        'LIMIT = 5\n"""Whatever comes after is lost."""',
    ],
)
def test_a_riddle_is_refused(source: str) -> None:
    assert len(list(refused(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Offsets of a batch."""',
        'text = """What a text says is its own affair."""',
        'def f():\n    """Whether it is open."""',
    ],
)
def test_anything_else_passes(source: str) -> None:
    assert not list(refused(source))
