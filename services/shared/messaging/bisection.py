"""Bisection: finds the bad items of a batch by halving it, so that only they fail."""

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
    """Await `attempt(batch)`; if it fails, bisect each half in order, down to single items.

    A single item that fails goes to `isolate` with its error. `splits` tells whether halving can help against
    an error; any other error is raised, and the effects before it remain.
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
