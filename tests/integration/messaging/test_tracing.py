"""Trace spans of an event, on a log and a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.openmetrics.exposition import generate_latest

from services.shared.contracts.base import Envelope
from services.shared.errors import PermanentError
from services.shared.ids import new_id
from services.shared.messaging import Filter, Origin, Record, UnitOfWork
from services.shared.messaging.consuming.decoding import DecodedRecord
from services.shared.messaging.consuming.sub_batches import SubBatch
from services.shared.observability.correlation import new_traceparent
from services.shared.observability.tracing import Span
from tests.fixtures.collector import Collector, collecting, traced_to
from tests.fixtures.ids import id_of
from tests.integration.messaging.conftest import ORIGIN, Bench, joined, on_the_real_things_alone


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


async def stage(bench: Bench, *origins: Origin) -> list[str]:
    """Stage an event of a new subject for each origin; returns the subjects."""
    subjects = [new_id() for _ in origins]

    async def body(work: UnitOfWork) -> None:
        for subject, origin in zip(subjects, origins, strict=True):
            work.stage(joined(subject), 1, origin)

    await bench.outbox.transact(body)
    return subjects


async def publish(bench: Bench) -> None:
    relay = bench.relay()
    while await relay.publish_batch():
        pass
    await relay._close()


async def test_spans_of_an_event_follow_the_step_that_staged_it(bench: Bench, collector: Collector) -> None:
    async def passes_on(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        for event in events:
            work.stage(joined(id_of(event.subject)), 1, Origin.of(event))

    with traced_to(collector.url):
        [subject] = await stage(bench, ORIGIN)
        await publish(bench)
        records = await bench.read(bench.topic, 1)
        await bench.applier(passes_on).apply(records)
    [row] = await bench.outbox.rows.find({"subject": id_of(subject)}).to_list(None)
    sent, handled = sorted(collector.spans, key=lambda span: span.name, reverse=True)
    assert (sent.name, handled.name) == ("send member.joined", "process member.joined")
    assert sent.parent == handled.parent == ORIGIN.traceparent[36:52]
    assert row["headers"]["ce_traceparent"].decode() == f"00-{handled.trace}-{handled.id}-01"
    assert row["headers"]["ce_correlationid"].decode() == ORIGIN.correlation_id
    assert handled.attributes["messaging.consumer.group.name"] == bench.group
    assert handled.attributes["messaging.destination.name"] == bench.topic
    assert handled.attributes["messaging.message.id"] == sent.attributes["messaging.message.id"]


async def test_the_duration_of_a_batch_names_a_trace_that_is_recorded(
    bench: Bench, collector: Collector
) -> None:
    with traced_to(collector.url):
        await stage(bench, Origin("quiet", new_traceparent()), ORIGIN)
        await publish(bench)
        bench.run(bench.consumer())
        await bench.effects_are(2)
        await bench.halt()
    shown = generate_latest(bench.registry).decode()
    assert f'# {{trace_id="{ORIGIN.traceparent[3:35]}"}}' in shown


async def test_only_recorded_traces_have_spans_in_a_batch(bench: Bench, collector: Collector) -> None:
    unrecorded = [Origin("quiet", new_traceparent()) for _ in range(20)]
    with traced_to(collector.url):
        await stage(bench, *unrecorded, ORIGIN, *unrecorded)
        await publish(bench)
        await bench.applier().apply(await bench.read(bench.topic, 41))
    assert await bench.effects.count_documents({}) == 41
    assert sorted(span.name for span in collector.spans) == ["process member.joined", "send member.joined"]


async def test_a_dead_letter_is_a_failed_span_and_the_others_are_not(
    bench: Bench, collector: Collector
) -> None:
    async def fails_for_one(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if any(event.subject == bad for event in events):
            raise PermanentError("no_such_unit", "9876543210")
        await bench.record_effects(events, work)

    with traced_to(collector.url):
        bad, *_ = await stage(bench, *[ORIGIN] * 5)
        await publish(bench)
        await bench.applier(fails_for_one).apply(await bench.read(bench.topic, 5))
    assert await bench.effects.count_documents({}) == 4
    handled = [span for span in collector.spans if span.name == "process member.joined"]
    assert [span.attributes.get("error.type") for span in handled if span.failed] == ["no_such_unit"]
    assert len(handled) == 5
    assert not any(b"9876543210" in raw for raw in collector.raw)


@on_the_real_things_alone
async def test_a_replay_is_a_span_of_the_trace(bench: Bench, collector: Collector) -> None:
    """Covers a letter that is applied, one that fails again, and one that the failure holds back."""
    sick: set[str] = set()

    async def fails_for_some(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if any(event.subject in sick for event in events):
            raise PermanentError("no_such_unit", "9876543210")
        for event in events:
            work.stage(joined(id_of(event.subject)), 1, Origin.of(event))

    with traced_to(collector.url):
        good, bad = await stage(bench, ORIGIN, ORIGIN)
        await bench.publish((joined(bad), 2))
        await publish(bench)
        sick |= {good, bad}
        await bench.applier(fails_for_some).apply(await bench.read(bench.topic, 3))
        sick.remove(good)
        letters = await bench.dead_letters.find(Filter(), after=None, limit=3)
        outcome = await bench.replayer(fails_for_some).replay(Filter(), letters, by="ops-1")
        assert (outcome.replayed, len(outcome.failed), outcome.held) == (1, 1, 1)
        await publish(bench)
    handled = [span for span in collector.spans if span.name == "process member.joined"]
    ends = Counter(span.attributes.get("error.type", "") for span in handled)
    assert ends == {"no_such_unit": 3 + 1, "held": 1, "": 1}
    [applied] = [span for span in handled if not span.failed]
    [row] = [span for span in collector.spans if span.parent == applied.id]
    assert (row.name, row.trace) == ("send member.joined", applied.trace)


async def test_with_tracing_off_nothing_is_done_per_event(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoded records are applied as they are: no per-event check, no copy."""
    await bench.publish((joined(), 1), (joined(), 1))
    applier = bench.applier()
    decoded: list[DecodedRecord | None] = []
    applied: list[DecodedRecord] = []
    read = applier._decode

    def reading(record: Record, now: datetime) -> DecodedRecord | None:
        decoded.append(read(record, now))
        return decoded[-1]

    def never(_: Sequence[DecodedRecord]) -> Iterator[tuple[str, Span]]:
        raise AssertionError("looked at each event")
        yield

    async def applying(sub_batch: SubBatch[DecodedRecord]) -> None:
        applied.extend(sub_batch.records)

    monkeypatch.setattr(applier, "_decode", reading)
    monkeypatch.setattr(applier, "_apply", applying)
    monkeypatch.setattr(applier, "_begin_spans", never)
    await applier.apply(await bench.read(bench.topic, 2))
    assert len(applied) == 2
    assert all(one is other for one, other in zip(applied, decoded, strict=True))
