"""Golden samples: one record in wire format for every event type.

A released sample is a promise to every consumer that has ever read the type, so its file never changes (its
hash is in RELEASED); a new field gets its own sample, `<type>.2.json`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from hypothesis import example, given
from hypothesis import strategies as st

from infra.composed import composed_services
from services.shared.contracts.catalogue import BY_TYPE, EVENTS
from services.shared.messaging import Partition, Record, decode, encode
from services.shared.messaging.codec import RAW_JSON, as_we_write, by_the_library

SAMPLES = Path(__file__).parent / "samples"
FILES = sorted(SAMPLES.glob("*.json"))
PERSONAL = {"name", "phone", "email", "handle", "invite_link", "text", "body", "address"}


def record(path: Path) -> Record:
    sample = json.loads(path.read_text(encoding="utf-8"))
    headers = tuple((name, value.encode()) for name, value in sample["headers"].items())
    value = json.dumps(sample["value"], separators=(",", ":"), ensure_ascii=False).encode()
    topic = BY_TYPE[sample["headers"]["ce_type"]].topic
    return Record(Partition(topic, 0), 0, sample["key"].encode(), value, headers, 0)


def test_every_event_type_has_a_sample() -> None:
    assert {path.name.removesuffix(".json").rstrip(".0123456789") for path in FILES} == set(BY_TYPE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_publisher_writes_what_the_sample_shows(path: Path) -> None:
    """Decoding and encoding keeps the content; new optional fields may be added."""
    released = record(path)
    message = encode(decode(released))
    assert dict(message.headers) == dict(released.headers)
    assert message.key == released.key
    assert released.value is not None
    before, after = json.loads(released.value), json.loads(message.value)
    assert before.items() <= after.items()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_encoding_is_that_of_the_cloudevents_library(path: Path) -> None:
    released = record(path)
    parsed = from_binary(KafkaMessage(dict(released.headers), None, released.value or b""), RAW_JSON)
    theirs = to_binary(parsed, RAW_JSON)
    assert dict(encode(decode(released)).headers) == theirs.headers


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_our_own_headers_are_read_as_the_library_reads_them(path: Path) -> None:
    headers = encode(decode(record(path))).headers
    assert as_we_write(headers) == by_the_library(headers, b"{}")


@given(
    at=st.integers(0, 10),
    value=st.one_of(st.none(), st.binary(max_size=8), st.text(max_size=40).map(str.encode), st.just(b"1.0")),
)
@example(at=5, value=b"2026-02-30T00:00:00Z")
@example(at=5, value=b"2026-02-03T24:00:00Z")
@example(at=5, value=b"2026-02-03T04:05:06+05:30")
def test_any_header_is_read_as_the_library_does_or_left_to_it(at: int, value: bytes) -> None:
    headers = list(encode(decode(record(SAMPLES / "group.member_assigned.json"))).headers)
    headers[at] = (headers[at][0], value)
    ours = as_we_write(tuple(headers))
    if ours is not None:
        assert ours == by_the_library(tuple(headers), b"{}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_consumer_ignores_fields_it_does_not_know(path: Path) -> None:
    known = record(path)
    assert known.value is not None
    newer = json.dumps({**json.loads(known.value), "added_later": {"x": 1}}).encode()
    grown = Record(known.partition, 0, known.key, newer, known.headers, 0)
    assert decode(grown).data == decode(known).data


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_released_sample_never_changes(path: Path) -> None:
    released = dict(line.split()[::-1] for line in (SAMPLES / "RELEASED").read_text().splitlines())
    assert released.get(path.name) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("service", ["groups", "notifications", "analytics"])
def test_every_type_a_consumer_reads_has_a_sample(service: str) -> None:
    types = {event.event_type for event in composed_services()[service].subscriptions}
    assert types
    assert types <= {json.loads(path.read_text())["headers"]["ce_type"] for path in FILES}


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.event_type)
def test_no_event_has_a_field_for_personal_data(event) -> None:
    assert not PERSONAL & set(event.model_fields)
