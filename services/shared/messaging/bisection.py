"""Bisection: one bad item in a batch is found by halving, so that it alone fails and the others go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def bisect(
    batch: Sequence[T],
    attempt: Callable[[Sequence[T]], Awaitable[None]],
    isolate: Callable[[T, Exception], Awaitable[None]],
    *,
    splits: Callable[[Exception], bool],
) -> None:
    """Await `attempt(batch)`; when it fails, its halves, in order, until the item that fails stands alone.

    That item goes to `isolate` with its error. `splits` tells whether halving can help against an error; any other is
    raised, and what was applied before it stands.
    """
    try:
        await attempt(batch)
        return
    except Exception as error:
        if not splits(error):
            raise
        if len(batch) == 1:
            await isolate(batch[0], error)
            return
    middle = len(batch) // 2
    await bisect(batch[:middle], attempt, isolate, splits=splits)
    await bisect(batch[middle:], attempt, isolate, splits=splits)
