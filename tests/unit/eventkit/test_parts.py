from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberLeft
from services.shared.eventkit.parts import WARY_BATCHES, Affinity, Parts
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


def cut(parts: Parts, batch: Batch) -> dict[str | None, Batch]:
    return {part.name: list(part.items) for part in parts.cut(batch, lambda item: item)}


@given(batches)
def test_nothing_is_lost_or_doubled(batch: Batch) -> None:
    flat = [item for part in cut(wary(), batch).values() for item in part]
    assert sorted(map(id, filter(None, flat))) == sorted(map(id, filter(None, batch)))
    assert len(flat) == len(batch)


@given(batches)
def test_the_events_of_a_subject_are_in_one_part_in_their_order(batch: Batch) -> None:
    parts = cut(wary(), batch).values()
    for subject in {e.subject for e in batch if e}:
        [found] = [found for part in parts if (found := [e.id for e in part if e and e.subject == subject])]
        assert found == [e.id for e in batch if e and e.subject == subject]


@given(batches)
def test_what_two_processes_may_meet_on_is_under_one_name_in_both(batch: Batch) -> None:
    under: dict[str, str] = {}
    for name, part in [*cut(wary(), batch).items(), *cut(wary(), batch[::-1]).items()]:
        for event in part if name else ():
            assert event is not None
            assert under.setdefault(event.data.unit, name or "") == name


def test_a_batch_is_cut_only_for_a_while_after_one_has_met_another() -> None:
    batch: Batch = [event(s, f"BR-{s}", n) for n, s in enumerate("abcdefgh")]
    parts = parts_by(lambda e: e.data.unit)
    assert cut(parts, batch) == {None: batch}
    parts.met()
    assert all(len(cut(parts, batch)) > 1 for _ in range(WARY_BATCHES))
    assert cut(parts, batch) == {None: batch}


def test_without_an_affinity_nothing_is_cut() -> None:
    parts = parts_by(None)
    parts.met()
    batch: Batch = [event("a", "BR-1", 1), event("b", "BR-2", 2)]
    assert cut(parts, batch) == {None: batch}
