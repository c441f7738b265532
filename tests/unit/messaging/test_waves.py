from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberLeft, MemberMoved
from services.shared.messaging.consuming.waves import waves
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def envelope(subject: str, leaves: bool, n: int) -> Envelope[Event]:
    event: Event = (
        MemberLeft(member_id=id_of(subject), unit="BR")
        if leaves
        else MemberMoved(member_id=id_of(subject), from_unit="BR", unit="BR-SARAN")
    )
    return Envelope(str(n), n, NOW, "c", "t", event)


events = st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=60).map(
    lambda pairs: [envelope(s, leaves, n) for n, (s, leaves) in enumerate(pairs)]
)


@given(events)
def test_every_event_is_in_one_wave_and_a_subject_at_most_once_per_wave(batch: list[Envelope[Event]]) -> None:
    cut = waves(batch)
    flat = [e for wave in cut for of_type in wave.values() for e in of_type]
    assert sorted(e.id for e in flat) == sorted(e.id for e in batch)
    for wave in cut:
        subjects = [e.subject for of_type in wave.values() for e in of_type]
        assert len(subjects) == len(set(subjects))
        assert all(type(e.data) is kind for kind, of_type in wave.items() for e in of_type)


@given(events)
def test_the_waves_keep_the_order_of_each_subject(batch: list[Envelope[Event]]) -> None:
    applied: dict[str, list[str]] = {}
    for wave in waves(batch):
        for of_type in wave.values():
            for e in of_type:
                applied.setdefault(e.subject, []).append(e.id)
    for subject, ids in applied.items():
        assert ids == [e.id for e in batch if e.subject == subject]


@given(events)
def test_there_are_as_few_waves_as_order_allows(batch: list[Envelope[Event]]) -> None:
    most = max((sum(e.subject == id_of(s) for e in batch) for s in "abcde"), default=0)
    assert len(waves(batch)) == most
