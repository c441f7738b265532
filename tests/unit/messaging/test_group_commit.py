from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from services.shared.errors import TransientError
from services.shared.messaging import GroupCommit, MessagingMetrics
from services.shared.messaging.publishing.group_commit import WORTH_ANOTHER


def metrics() -> MessagingMetrics:
    return MessagingMetrics(CollectorRegistry())


class Ledger:
    """A commit that refuses odd writes, and records its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.most_at_once = 0
        self.beside_another: list[int] = []
        """The number of writes in each commit that began while another ran."""
        self._at_once = 0
        self.done: list[int] = []

    async def commit(self, writes: Sequence[int]) -> list[int]:
        self.calls.append(list(writes))
        if self._at_once:
            self.beside_another.append(len(writes))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0.01)
        self._at_once -= 1
        if any(w % 2 for w in writes):
            raise ValueError(f"{len(writes)} writes")
        self.done += writes
        return [w * 10 for w in writes]


async def test_concurrent_writes_share_commits_and_each_gets_its_own_result() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), max_batch=64, writers=1)
    results = await asyncio.gather(*(group.submit(n) for n in range(0, 400, 2)))
    assert results == [n * 10 for n in range(0, 400, 2)]
    assert sorted(ledger.done) == list(range(0, 400, 2))
    assert len(ledger.calls) < 10
    assert max(len(call) for call in ledger.calls) == 64


async def test_a_lone_write_is_committed_at_once() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics())
    assert await asyncio.wait_for(group.submit(2), 0.5) == 20


async def test_a_caller_may_write_again_as_soon_as_it_is_answered() -> None:
    """The writer that answered is about to end, and must not be waited for."""
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), writers=1)
    async with asyncio.timeout(2):
        assert [await group.submit(n) for n in range(0, 20, 2)] == [n * 10 for n in range(0, 20, 2)]


async def test_a_bad_write_fails_alone() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), writers=1)
    writes = [2, 4, 5, 6, 8]
    results = await asyncio.gather(*(group.submit(w) for w in writes), return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [20, 40, 60, 80]
    (error,) = [r for r in results if isinstance(r, Exception)]
    assert str(error) == "1 writes"
    assert sorted(ledger.done) == [2, 4, 6, 8]


async def test_a_cancelled_caller_affects_neither_its_write_nor_others() -> None:
    """The write was accepted, so it is committed; the others of its batch get their answers."""
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), writers=1)
    gone = asyncio.create_task(group.submit(2))
    stays = asyncio.create_task(group.submit(4))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 40
    assert sorted(ledger.done) == [2, 4]


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), max_batch=2, writers=1)
    accepted = [asyncio.create_task(group.submit(n)) for n in range(0, 20, 2)]
    await asyncio.sleep(0)
    await group.close()
    with pytest.raises(TransientError):
        await group.submit(2)
    assert [await task for task in accepted] == [n * 10 for n in range(0, 20, 2)]


@pytest.mark.parametrize(("writes", "at_once"), [(1 + WORTH_ANOTHER, 2), (WORTH_ANOTHER, 1), (500, 2)])
async def test_a_second_transaction_runs_only_beside_a_first_that_cannot_keep_up(
    writes: int, at_once: int
) -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), max_batch=64, writers=2)
    first = asyncio.create_task(group.submit(0))
    await asyncio.sleep(0)
    await asyncio.gather(first, *(group.submit(2 * n) for n in range(1, writes)))
    assert ledger.most_at_once == at_once
    assert sorted(ledger.done) == [2 * n for n in range(writes)]


async def test_a_second_writer_ends_when_a_few_writes_are_left_and_the_first_takes_them() -> None:
    ledger = Ledger()
    group = GroupCommit(ledger.commit, metrics(), max_batch=WORTH_ANOTHER, writers=2)
    writes = [asyncio.create_task(group.submit(2 * n)) for n in range(5 * WORTH_ANOTHER)]
    for n in range(40):  # a few at a time, during the rush and after it
        await asyncio.sleep(0.004)
        writes += [asyncio.create_task(group.submit(1000 + 2 * n))]
    async with asyncio.timeout(10):
        await asyncio.gather(*writes)
    assert ledger.most_at_once == 2
    assert [few for few in ledger.beside_another if few < WORTH_ANOTHER] == []
    assert sum(len(call) for call in ledger.calls) == len(writes)
