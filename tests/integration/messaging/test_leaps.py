"""An event that a handler refuses is a dead letter alone, at no cost to the others of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.errors import PermanentError
from services.shared.messaging import MAX_LEAP, Filter, UnitOfWork, newer
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone

pytestmark = on_the_real_things_alone
ABSURD = [MAX_LEAP + 1, 2**31, 2**53 - 1]


class Remembering:
    """Keeps the last sequence of each subject in memory: like a service's handler, without its store."""

    def __init__(self, bench: Bench, known: dict[str, int]) -> None:
        self.bench, self.known, self.runs = bench, known, 0

    async def __call__(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        self.runs += 1
        if fresh := newer(events, lambda id_: self.known.get(id_, 0), work):
            await self.bench.record_effects(fresh, work)


async def test_a_leap_is_a_letter_and_its_batch_is_applied_at_the_first_try(bench: Bench) -> None:
    people = [joined() for _ in range(40)]
    forged = [(joined(), sequence) for sequence in ABSURD]
    await bench.publish(*[(person, 1) for person in people], *forged)
    records = await bench.read(bench.topic, len(people) + len(forged))
    handler = Remembering(bench, {})
    await bench.applier(handler, splitter=bench.splitter()).apply(records)

    assert handler.runs == 1, "no halving: one transaction for the whole batch"
    assert await bench.effects.count_documents({}) == len(people)
    letters = await bench.dead_letters.find(Filter(), after=None, limit=10)
    assert {letter["reason"] for letter in letters} == {"sequence_leap"}
    assert {letter["headers"]["ce_subject"] for letter in letters} == {p.member_id for p, _ in forged}
    await bench.applier(handler).apply(records)
    assert await bench.effects.count_documents({}) == len(people), "delivered again: nothing happens"


@pytest.mark.parametrize(
    ("known", "sequence", "applied"), [(0, MAX_LEAP, 1), (7, MAX_LEAP + 7, 1), (7, 7, 0)]
)
async def test_what_may_be_honest_is_no_leap(bench: Bench, known: int, sequence: int, applied: int) -> None:
    person = joined()
    await bench.publish((person, sequence))
    records = await bench.read(bench.topic, 1)
    await bench.applier(Remembering(bench, {person.member_id: known})).apply(records)
    assert await bench.effects.count_documents({}) == applied
    assert await bench.dead_letters.find(Filter(), after=None, limit=1) == []


async def test_a_leap_stays_dead_when_it_is_replayed_and_can_be_applied_once_it_is_near(bench: Bench) -> None:
    person = joined()
    await bench.publish((person, MAX_LEAP + 2))
    handler = Remembering(bench, {})
    await bench.applier(handler).apply(await bench.read(bench.topic, 1))
    [letter] = await bench.dead_letters.find(Filter(), after=None, limit=1)
    with pytest.raises(PermanentError, match="sequence_leap"):
        await bench.replayer(handler).replay_one(letter["_id"], by="ops-1")
    handler.known[person.member_id] = 2
    await bench.replayer(handler).replay_one(letter["_id"], by="ops-1")
    assert await bench.effects.count_documents({}) == 1
