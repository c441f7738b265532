"""The polling loop: pace, retries, end."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from services.shared.errors import TransientError
from services.shared.loops import Backoff, Pace, Turn, poll_loop

FAST = Backoff(0.001, 0.002)


async def run(turns: list[Turn | Exception], *, pace: Pace, seconds: float = 2.0) -> list[float]:
    """Play the turns and stop; returns the pauses between them."""
    stop, clock, at = asyncio.Event(), asyncio.get_running_loop(), list[float]()

    async def work() -> Turn:
        at.append(clock.time())
        turn = turns[len(at) - 1]
        if len(at) == len(turns):
            stop.set()
        if isinstance(turn, Exception):
            raise turn
        return turn

    await asyncio.wait_for(poll_loop("test", work, stop, pace, backoff=FAST), seconds)
    return [round(b - a, 2) for a, b in itertools.pairwise(at)]


async def test_pauses_double_while_there_is_nothing_and_begin_anew_after_work() -> None:
    nothing, some = Turn.NOTHING, Turn.SOME
    expected = pytest.approx([0.1, 0.2, 0.2, 0.2, 0.05], abs=0.03)
    turns: list[Turn | Exception] = [nothing, nothing, nothing, nothing, some, nothing]
    # The machine may be busy with other things: the best of a few runs.
    assert any([await run(turns, pace=Pace(0.05, 0.2)) == expected for _ in range(5)])


async def test_a_full_batch_is_followed_at_once() -> None:
    assert await run([Turn.MORE, Turn.MORE, Turn.NOTHING], pace=Pace.every(5)) == pytest.approx(
        [0, 0], abs=0.02
    )


async def test_a_transient_fault_is_retried_and_a_permanent_one_is_raised() -> None:
    await run([TransientError("busy"), TimeoutError(), Turn.NOTHING], pace=Pace.every(5))
    with pytest.raises(KeyError):
        await run([TransientError("busy"), KeyError("bug")], pace=Pace.every(5))


async def test_a_wake_ends_the_pause_and_is_used_up() -> None:
    stop, wake, turns = asyncio.Event(), asyncio.Event(), 0

    async def work() -> Turn:
        nonlocal turns
        turns += 1
        if turns == 2:
            stop.set()
        return Turn.NOTHING

    loop = asyncio.create_task(poll_loop("test", work, stop, Pace.every(60), wake=wake))
    await asyncio.sleep(0.01)
    wake.set()
    await asyncio.wait_for(loop, 2)
    assert turns == 2
    assert not wake.is_set()


@pytest.mark.parametrize(("found", "turn"), [(0, Turn.NOTHING), (3, Turn.SOME), (10, Turn.MORE)])
def test_a_turn_by_how_much_it_found(found: int, turn: Turn) -> None:
    assert Turn.of(found, 10) is turn
