from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberLeft
from services.shared.messaging import Affinity, Splitter
from services.shared.messaging.consuming.sub_batches import (
    CONCURRENCY,
    CONTENDED_BATCHES,
    MIN_EVENTS,
    SubBatch,
    number_of,
)
from tests.fakes.mongo import MemoryClient
from tests.fakes.store import Store
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
Batch = list[Envelope[MemberLeft] | None]


def event(subject: str, unit: str, n: int) -> Envelope[MemberLeft]:
    return Envelope(str(n), n, NOW, "c", "t", MemberLeft(member_id=id_of(subject), unit=unit))


batches = st.lists(
    st.none() | st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["BR-1", "BR-2", "BR-3", "BR-4"])),
    min_size=1,
    max_size=40,
).map(lambda drawn: [event(*each, n) if each else None for n, each in enumerate(drawn)])


def splitter_by(affinity: Affinity | None) -> Splitter:
    return Splitter(cast(Any, MemoryClient(Store(lambda: NOW))).get_database("groups"), affinity)


def contended() -> Splitter:
    splitter = splitter_by(lambda e: e.data.unit)
    splitter.note_contention()
    return splitter


def split(splitter: Splitter, batch: Batch) -> list[SubBatch[Envelope[MemberLeft] | None]]:
    """The sub-batches in the order of application; concurrent ones in any order."""
    found = splitter.split(batch, lambda item: item)
    return [*found.concurrent, *found.last]


@given(batches)
def test_nothing_is_lost_or_doubled(batch: Batch) -> None:
    flat = [item for part in split(contended(), batch) for item in part.records]
    assert sorted(map(id, filter(None, flat))) == sorted(map(id, filter(None, batch)))
    assert len(flat) == len(batch)


@given(batches)
def test_the_events_of_a_subject_share_a_sub_batch_in_their_order(batch: Batch) -> None:
    parts = [part.records for part in split(contended(), batch)]
    for subject in {e.subject for e in batch if e}:
        [found] = [found for part in parts if (found := [e.id for e in part if e and e.subject == subject])]
        assert found == [e.id for e in batch if e and e.subject == subject]


@given(batches)
def test_events_that_may_conflict_have_the_same_lock_in_every_process(batch: Batch) -> None:
    under: dict[str, str] = {}
    for part in [*split(contended(), batch), *split(contended(), batch[::-1])]:
        for event in filter(None, part.records if part.lock else ()):
            assert under.setdefault(event.data.unit, part.lock or "") == part.lock


def many(n: int = CONCURRENCY * MIN_EVENTS) -> Batch:
    return [event(f"m{i}", f"BR-{i % 40}", i) for i in range(n)]


def test_a_large_batch_becomes_two_sub_batches_and_no_affinity_is_in_both() -> None:
    sub_batches = split(splitter_by(lambda e: e.data.unit), many())
    assert len(sub_batches) == CONCURRENCY
    assert all(each.splittable and each.lock is None for each in sub_batches)
    one, other = ({e.data.unit for e in each.records if e} for each in sub_batches)
    assert one
    assert other
    assert not one & other


def test_a_small_batch_stays_one_transaction() -> None:
    assert split(splitter_by(lambda e: e.data.unit), batch := many(CONCURRENCY * MIN_EVENTS - 1)) == [
        SubBatch(batch, splittable=True)
    ]


def test_a_subject_that_would_be_in_several_sub_batches_comes_last_and_is_not_split_again() -> None:
    assert number_of("BR-1", CONCURRENCY) != number_of("BR-39", CONCURRENCY)
    batch = [*many(), None, event("m1", "BR-39", 1000), event("m1", "BR-1", 1001)]
    found = splitter_by(lambda e: e.data.unit).split(batch, lambda item: item)
    assert found.last == [SubBatch([batch[1], *batch[-2:]])]


def test_a_subject_whose_events_share_a_sub_batch_needs_no_transaction_of_its_own() -> None:
    batch = [*many(), event("m1", "BR-1", 1000)]
    found = splitter_by(lambda e: e.data.unit).split(batch, lambda item: item)
    assert not found.last
    assert ["1", "1000"] in [
        [e.id for e in part.records if e and e.subject == id_of("m1")] for part in found.concurrent
    ]


def test_batches_are_under_locks_only_for_a_while_after_contention() -> None:
    batch: Batch = [event(s, f"BR-{s.upper()}", n) for n, s in enumerate("abcdefgh")]
    splitter = splitter_by(lambda e: e.data.unit)
    assert split(splitter, batch) == [SubBatch(batch, splittable=True)]
    splitter.note_contention()
    for _ in range(CONTENDED_BATCHES):
        cautious = split(splitter, batch)
        assert len(cautious) > 1
        assert all(part.lock and not part.splittable for part in cautious)
    assert split(splitter, batch) == [SubBatch(batch, splittable=True)]


def test_without_an_affinity_nothing_is_split() -> None:
    splitter = splitter_by(None)
    splitter.note_contention()
    assert split(splitter, batch := many()) == [SubBatch(batch)]
