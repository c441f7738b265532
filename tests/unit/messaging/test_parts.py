from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberLeft
from services.shared.messaging import Affinity
from services.shared.messaging.consuming.sub_batches import LANES, LEAST, WARY_BATCHES, Part, Parts, number_of
from tests.fakes.mongo import MemoryClient
from tests.fakes.store import Store

NOW = datetime(2026, 11, 24, tzinfo=UTC)
Batch = list[Envelope[MemberLeft] | None]


def event(subject: str, unit: str, n: int) -> Envelope[MemberLeft]:
    return Envelope(str(n), n, NOW, "c", "t", MemberLeft(member_id=subject, unit=unit))


batches = st.lists(
    st.none() | st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["BR-1", "BR-2", "BR-3", "BR-4"])),
    min_size=1,
    max_size=40,
).map(lambda drawn: [event(*each, n) if each else None for n, each in enumerate(drawn)])


def parts_by(affinity: Affinity | None) -> Parts:
    return Parts(cast(Any, MemoryClient(Store(lambda: NOW))).get_database("groups"), affinity)


def wary() -> Parts:
    parts = parts_by(lambda e: e.data.unit)
    parts.met()
    return parts


def cut(parts: Parts, batch: Batch) -> list[Part[Envelope[MemberLeft] | None]]:
    """In the order in which they are applied; the parts that may be applied together in any."""
    found = parts.cut(batch, lambda item: item)
    return [*found.parts, *found.last]


@given(batches)
def test_nothing_is_lost_or_doubled(batch: Batch) -> None:
    flat = [item for part in cut(wary(), batch) for item in part.items]
    assert sorted(map(id, filter(None, flat))) == sorted(map(id, filter(None, batch)))
    assert len(flat) == len(batch)


@given(batches)
def test_the_events_of_a_subject_are_in_one_part_in_their_order(batch: Batch) -> None:
    parts = [part.items for part in cut(wary(), batch)]
    for subject in {e.subject for e in batch if e}:
        [found] = [found for part in parts if (found := [e.id for e in part if e and e.subject == subject])]
        assert found == [e.id for e in batch if e and e.subject == subject]


@given(batches)
def test_what_two_processes_may_meet_on_is_under_one_name_in_both(batch: Batch) -> None:
    under: dict[str, str] = {}
    for part in [*cut(wary(), batch), *cut(wary(), batch[::-1])]:
        for event in filter(None, part.items if part.lock else ()):
            assert under.setdefault(event.data.unit, part.lock or "") == part.lock


def many(n: int = LANES * LEAST) -> Batch:
    return [event(f"m{i}", f"BR-{i % 40}", i) for i in range(n)]


def test_a_large_batch_is_two_lanes_that_no_affinity_is_in_both_of() -> None:
    lanes = cut(parts_by(lambda e: e.data.unit), many())
    assert len(lanes) == LANES
    assert all(lane.cuttable and lane.lock is None for lane in lanes)
    one, other = ({e.data.unit for e in lane.items if e} for lane in lanes)
    assert one
    assert other
    assert not one & other


def test_a_smaller_one_is_not_worth_two_transactions() -> None:
    assert cut(parts_by(lambda e: e.data.unit), batch := many(LANES * LEAST - 1)) == [
        Part(batch, cuttable=True)
    ]


def test_a_subject_that_would_be_in_several_parts_comes_last_and_is_not_cut_again() -> None:
    assert number_of("BR-1", LANES) != number_of("BR-39", LANES)
    batch = [*many(), None, event("m1", "BR-39", 1000), event("m1", "BR-1", 1001)]
    found = parts_by(lambda e: e.data.unit).cut(batch, lambda item: item)
    assert found.last == [Part([batch[1], *batch[-2:]])]


def test_a_subject_whose_events_are_of_one_part_needs_no_transaction_of_its_own() -> None:
    batch = [*many(), event("m1", "BR-1", 1000)]
    found = parts_by(lambda e: e.data.unit).cut(batch, lambda item: item)
    assert not found.last
    assert ["1", "1000"] in [[e.id for e in part.items if e and e.subject == "m1"] for part in found.parts]


def test_a_batch_is_under_locks_only_for_a_while_after_one_has_met_another() -> None:
    batch: Batch = [event(s, f"BR-{s}", n) for n, s in enumerate("abcdefgh")]
    parts = parts_by(lambda e: e.data.unit)
    assert cut(parts, batch) == [Part(batch, cuttable=True)]
    parts.met()
    for _ in range(WARY_BATCHES):
        cautious = cut(parts, batch)
        assert len(cautious) > 1
        assert all(part.lock and not part.cuttable for part in cautious)
    assert cut(parts, batch) == [Part(batch, cuttable=True)]


def test_without_an_affinity_nothing_is_cut() -> None:
    parts = parts_by(None)
    parts.met()
    assert cut(parts, batch := many()) == [Part(batch)]
