"""Bisection isolates each bad item, in order; everything else is applied once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.errors import TransientError
from services.shared.messaging.bisection import bisect


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_item_is_applied_or_isolated_once(bad: list[bool]) -> None:
    asyncio.run(every_item_once(bad))


async def every_item_once(bad: list[bool]) -> None:
    applied: list[int] = []
    isolated: list[int] = []

    async def attempt(items: Sequence[int]) -> None:
        if any(bad[n] for n in items):
            raise ValueError
        applied.extend(items)

    async def isolate(item: int, error: Exception) -> None:
        assert isinstance(error, ValueError)
        isolated.append(item)

    await bisect(range(len(bad)), attempt, isolate, splits=lambda error: isinstance(error, ValueError))
    assert applied == [n for n, is_bad in enumerate(bad) if not is_bad]
    assert isolated == [n for n, is_bad in enumerate(bad) if is_bad]


async def test_an_error_that_does_not_split_is_raised_and_earlier_items_stay_applied() -> None:
    applied: list[int] = []

    async def attempt(items: Sequence[int]) -> None:
        if len(items) > 1:
            raise ValueError
        if items[0] == 2:
            raise TransientError("down")
        applied.extend(items)

    async def isolate(item: int, error: Exception) -> None:
        raise AssertionError

    with pytest.raises(TransientError):
        await bisect([0, 1, 2, 3], attempt, isolate, splits=lambda error: isinstance(error, ValueError))
    assert applied == [0, 1]
