"""However a stream is shuffled, repeated and cut: the folded changes equal a naive recount."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.analytics.core.counting import Changes
from services.analytics.core.facts import Fact, learn, learn_whole
from services.analytics.core.store import Totals
from services.analytics.figures.queries import overview
from services.analytics.figures.schemas import Metric
from services.analytics.projections.catalogue import PROJECTIONS
from services.analytics.projections.coverage import CoverageFold
from services.shared.contracts.base import Envelope
from services.shared.contracts.catalogue import EVENTS
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.groups import PolicyApplied
from services.shared.contracts.members import MemberErased
from services.shared.contracts.notifications import (
    MemberOptedOut,
    MemberReplied,
    MemberUnreachable,
    NotificationDeferred,
)
from tests.unit.analytics.streams import (
    BEGIN,
    FLOWS,
    Stream,
    recount,
    recount_day,
    snapshots,
    streams,
    units,
)

READINGS = {event: (p, mapping) for p in PROJECTIONS for event, mapping in p.mappings.items()}
"""The projection that reads each event type, and how."""


def fold(batches: list[list[Envelope[Any]]]) -> Changes:
    facts: dict[tuple[str, str], Fact] = {}
    changes = Changes()
    for event in (event for batch in batches for event in batch):
        projection, mapping = READINGS[type(event.data)]
        old = facts.get((projection.name, event.subject))
        before = old or Fact(event.subject)
        rule = learn_whole if mapping.whole else learn
        new = rule(before, event.sequence, mapping.states(event.data))
        if new is not None:
            facts[projection.name, event.subject] = new
            changes.note(projection, old, new)
            changes.happened(event, mapping.flows(event) if not mapping.whole or before.unheard else ())
    return changes


def totals(changes: Changes, unit: str) -> Totals:
    return Totals(Counter({key: n for (u, key), n in changes.totals.items() if u == unit}))


@given(streams(units("BR")))
@settings(max_examples=150, deadline=None)
def test_any_delivery_gives_the_recount(stream: Stream) -> None:
    changes = fold(stream.batches)
    for unit in units("BR"):
        got = overview(unit, totals(changes, unit), Totals()).model_dump(exclude={"unit", "as_of"})
        assert got == recount(stream.facts, unit)


@given(streams(units("BR")))
@settings(max_examples=100, deadline=None)
def test_any_delivery_gives_the_same_days(stream: Stream) -> None:
    changes = fold(stream.batches)
    for metric in FLOWS:
        for unit in ("BR", "BR-A", "BR-A-X-1"):
            for n in range(-6, 4):
                day: date = BEGIN.date() + timedelta(days=n)
                expected = recount_day(stream.facts, unit, metric, day)
                assert changes.flows[unit, day, metric] == expected, (metric, unit, day)


@given(streams(units("BR")), st.data())
@settings(max_examples=150, deadline=None)
def test_snapshots_among_the_events_change_nothing(stream: Stream, data: st.DataObject) -> None:
    """In the totals wherever they stand; in the days after the first event of their subject."""
    told = [*draw_snapshots(stream, data), *draw_snapshots(stream, data)]
    delivered = [event for batch in stream.batches for event in batch]
    came = data.draw(st.permutations([*delivered, *told, *told]))
    changes = fold([list(came)])
    for unit in units("BR"):
        got = overview(unit, totals(changes, unit), Totals()).model_dump(exclude={"unit", "as_of"})
        assert got == recount(stream.facts, unit)

    changes = fold([after_their_beginning(came, {event.id for event in told})])
    for metric in FLOWS:
        for n in range(-6, 4):
            day: date = BEGIN.date() + timedelta(days=n)
            assert changes.flows["BR", day, metric] == recount_day(stream.facts, "BR", metric, day)


@given(streams(units("BR")), st.data())
@settings(max_examples=150, deadline=None)
def test_after_a_loss_snapshots_and_what_follows_give_the_recount(
    stream: Stream, data: st.DataObject
) -> None:
    told = draw_snapshots(stream, data, least=1)
    known = {(event.data.topic, event.subject): event.sequence for event in told}
    later = [e for e in stream.facts if e.sequence > known[e.data.topic, e.subject]]
    changes = fold([list(data.draw(st.permutations([*told, *told, *later, *later])))])
    for unit in units("BR"):
        got = overview(unit, totals(changes, unit), Totals()).model_dump(exclude={"unit", "as_of"})
        assert got == recount(stream.facts, unit)
    for n in range(-6, 4):
        day: date = BEGIN.date() + timedelta(days=n)
        expected = recount_day(stream.facts, "BR", "members.joined", day)
        assert changes.flows["BR", day, "members.joined"] == expected


def after_their_beginning(came: list[Envelope[Any]], told: set[str]) -> list[Envelope[Any]]:
    """The same, but a snapshot that came before its subject's first event comes last."""
    begun: set[tuple[str, str]] = set()
    order: list[Envelope[Any]] = []
    early: list[Envelope[Any]] = []
    for event in came:
        subject = (event.data.topic, event.subject)
        if event.id in told and subject not in begun:
            early.append(event)
            continue
        order.append(event)
        if event.sequence == 1:
            begun.add(subject)
    return order + early


def draw_snapshots(stream: Stream, data: st.DataObject, least: int = 0) -> list[Envelope[Any]]:
    """A snapshot of each subject after some of its events."""
    return snapshots(stream.facts, lambda there_are: data.draw(st.integers(least, there_are)))


def test_every_event_is_read() -> None:
    """But for the bookkeeping of erasures and policies, what a member answers, and that a notification goes
    later, which change no figure."""
    bookkeeping = ErasureAcknowledged | MemberErased | PolicyApplied
    bookkeeping |= MemberOptedOut | MemberReplied | MemberUnreachable | NotificationDeferred
    kept = {e for e in EVENTS if issubclass(e, bookkeeping)}
    assert {*READINGS, *CoverageFold.events} == set(EVENTS) - kept


def test_the_metrics_offered_are_those_counted() -> None:
    moves = {f"members.{word}_{way}" for word in ("moved", "redrawn") for way in ("in", "out")}
    assert {metric.value for metric in Metric} == {*FLOWS, *moves}


def test_every_counter_belongs_to_one_projection() -> None:
    """The first release's projections share a collection of counters, of which each has its own."""
    for metric in Metric:
        assert len([p for p in PROJECTIONS if p.has(metric.value)]) == 1
