"""An event is a claim: what a producer with access to a topic may not claim, and that honest ones are not
refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from services.groups.chat_groups.schemas import GroupChange
from services.groups.settings import GroupsSettings
from services.groups.tree.fields import WomenTarget
from services.shared.contracts.base import Event
from services.shared.contracts.catalogue import BY_TYPE, EVENTS
from services.shared.contracts.vocabulary import (
    MAX_AHEAD,
    MAX_LEVELS,
    Channel,
    EventUnit,
    Gender,
    GroupKind,
    Id,
    Language,
    LanguageCode,
    PlaceNames,
    Platform,
    Purpose,
    Seats,
    Share,
    UnitCode,
    UnitLevel,
    Word,
    Words,
)
from services.shared.errors import PermanentError
from services.shared.faults import describe
from services.shared.http.context import _REQUEST_ID
from services.shared.ids import new_id
from services.shared.messaging import Partition, Record, decode
from services.shared.messaging.codec import HEADERS, MAX_HEADER_BYTES, kept_headers
from services.shared.text import NAME_LIMIT
from tests.contracts.test_samples import FILES, SAMPLES, record

NOW = datetime(2026, 11, 24, tzinfo=UTC)
JOINED, CREATED, UNIT = "member.joined", "group.created", "unit.upserted.2"
OTHER = new_id()


def claim(
    sample: str,
    *,
    topic: str | None = None,
    key: bytes | None = None,
    headers: Mapping[str, bytes | None] | None = None,
    more: tuple[tuple[str, bytes], ...] = (),
    **data: Any,
) -> Record:
    """A sample with other claims. A header of None is null; `more` are headers after the sample's."""
    honest = record(SAMPLES / f"{sample}.json")
    value = json.dumps({**json.loads(honest.value or b""), **data}).encode()
    claimed: Any = tuple({**dict(honest.headers), **(headers or {})}.items()) + more
    place = Partition(topic or honest.partition.topic, 0)
    return Record(place, 0, key or honest.key, value, claimed, 0)


def refusal(made: Record) -> tuple[str, str]:
    with pytest.raises((PermanentError, ValidationError)) as refused:
        decode(made, NOW)
    return describe(refused.value)


CLAIMS: dict[str, tuple[Record, str]] = {
    "a member leaves in the topic of groups": (claim("member.left", topic="sangathan.groups"), "wrong_topic"),
    "a group is made in the topic of members": (claim(CREATED, topic="sangathan.members"), "wrong_topic"),
    "a topic that is no topic": (claim(CREATED, topic="sangathan.other"), "wrong_topic"),
    "groups speaks for members": (claim(JOINED, headers={"ce_source": b"/groups"}), "wrong_source"),
    "a source that looks alike": (claim(JOINED, headers={"ce_source": b"/members2"}), "wrong_source"),
    "a source in capitals": (claim(JOINED, headers={"ce_source": b"/Members"}), "not_a_cloudevent"),
    "the key of another": (claim(JOINED, key=OTHER.encode()), "key_mismatch"),
    "the subject of another": (claim(JOINED, headers={"ce_subject": OTHER.encode()}), "key_mismatch"),
    "the data of another": (claim(JOINED, member_id=OTHER), "key_mismatch"),
    "the key in capitals": (claim(JOINED, key=b"01A20901-0000-7000-8000-000000000001"), "key_mismatch"),
    "an id of a megabyte": (claim(JOINED, headers={"ce_id": b"1" * 1_000_000}), "headers_too_large"),
    "an id in capitals": (
        claim(JOINED, headers={"ce_id": b"01A20902-0000-7000-8000-000000000000"}),
        "not_a_cloudevent",
    ),
    "an id that is no UUID": (claim(JOINED, headers={"ce_id": b"1"}), "not_a_cloudevent"),
    "an id and a second line": (
        claim(JOINED, headers={"ce_id": new_id().encode() + b"\n/members"}),
        "not_a_cloudevent",
    ),
    "a cause that is no UUID": (claim(JOINED, more=(("ce_causationid", b"x" * 999),)), "not_a_cloudevent"),
    "an endless correlation": (claim(JOINED, headers={"ce_correlationid": b"x" * 65}), "not_a_cloudevent"),
    "a trace that is none": (claim(JOINED, headers={"ce_traceparent": b"00-zz"}), "not_a_cloudevent"),
    "a trace of zeros": (
        claim(JOINED, headers={"ce_traceparent": b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"}),
        "not_a_cloudevent",
    ),
    "two ids": (claim(JOINED, more=(("ce_id", new_id().encode()),)), "not_a_cloudevent"),
    "a null id": (claim(JOINED, headers={"ce_id": None}), "not_a_cloudevent"),
    "a null subject": (claim(JOINED, headers={"ce_subject": None}), "not_a_cloudevent"),
    "an empty time": (claim(JOINED, headers={"ce_time": b""}), "not_a_cloudevent"),
    "headers beyond the limit": (claim(JOINED, more=(("x", b"x" * MAX_HEADER_BYTES),)), "headers_too_large"),
    "a name beyond the limit": (claim(JOINED, more=(("x" * MAX_HEADER_BYTES, b""),)), "headers_too_large"),
    "33 headers": (
        claim(JOINED, more=tuple((f"x{n}", b"") for n in range(23))),
        "headers_too_large",
    ),
    "a sequence of 2^53": (claim(JOINED, headers={"ce_sequence": b"%d" % 2**53}), "not_a_cloudevent"),
    "a sequence of 10^18-1": (claim(JOINED, headers={"ce_sequence": b"9" * 18}), "not_a_cloudevent"),
    "a sequence of 0": (claim(JOINED, headers={"ce_sequence": b"0"}), "not_a_cloudevent"),
    "the year 9999": (claim(JOINED, headers={"ce_time": b"9999-01-01T00:00:00Z"}), "time_ahead"),
    "six minutes ahead": (claim(JOINED, headers={"ce_time": b"2026-11-24T00:06:00Z"}), "time_ahead"),
    "ahead in another zone": (
        claim(JOINED, headers={"ce_time": b"2026-11-24T05:36:00+05:30"}),
        "time_ahead",
    ),
    "the year 1970": (claim(JOINED, headers={"ce_time": b"1970-01-01T00:00:00Z"}), "not_a_cloudevent"),
    "joined in the future": (claim(JOINED, joined_at="2026-11-24T00:06:00Z"), "time_ahead"),
    "joined in 1970": (claim(JOINED, joined_at="1970-01-01T00:00:00Z"), "invalid_data"),
    "joined at no zone's time": (claim(JOINED, joined_at="2026-11-23T00:00:00"), "invalid_data"),
    "made in the future": (claim("notification.snapshot", created_at="2027-01-01T00:00:00Z"), "time_ahead"),
    "a unit of 5,000 segments": (claim(JOINED, unit="-".join(["B"] * 5000)), "invalid_data"),
    "a unit of nine levels": (claim(JOINED, unit="BR-1-2-3-4-5-6-7-8"), "invalid_data"),
    "a unit with a dollar": (claim(JOINED, unit="BR-$gt"), "invalid_data"),
    "a capacity of 2^63-101": (claim(CREATED, capacity=2**63 - 101), "invalid_data"),
    "a capacity beyond 64 bits": (claim(CREATED, capacity=10**30), "invalid_data"),
    "a capacity of -4": (claim(CREATED, capacity=-4), "invalid_data"),
    "a capacity of none": (claim("group.updated", capacity=0), "invalid_data"),
    "an ordinal of 0": (claim(CREATED, ordinal=0), "invalid_data"),
    "attempts below zero": (claim("notification.sent", attempts=-1), "invalid_data"),
    "a member's sequence of 2^53": (claim("group.member_assigned.2", member_sequence=2**53), "invalid_data"),
    "33 platforms": (claim(JOINED, platforms=["whatsapp"] * 33), "invalid_data"),
    "a platform that is a sentence": (claim(JOINED, platforms=["Call me at 9876543210"]), "invalid_data"),
    "a language that is a name": (claim(JOINED, language="Sunita Devi"), "invalid_data"),
    "an inviter in capitals": (claim(JOINED, inviter_id=OTHER.upper()), "invalid_data"),
    "a share that is no number": (claim(UNIT, women_target=float("nan")), "invalid_data"),
    "a share beyond one": (claim(UNIT, women_target=float("inf")), "invalid_data"),
    "33 names": (claim(UNIT, names={f"en-{n:02}": "x" for n in range(33)}), "invalid_data"),
    "an endless name": (claim(UNIT, names={"en": "x" * 201}), "invalid_data"),
}


@pytest.mark.parametrize("made", CLAIMS)
def test_a_claim_beyond_its_bounds_is_refused_with_the_reason(made: str) -> None:
    forged, reason = CLAIMS[made]
    assert refusal(forged)[0] == reason


@pytest.mark.parametrize(
    "names",
    [{"Sunita Devi 9876543210": 1}, {"sunita_devi": "x" * 300}, {"9876543210": {"call": "me"}}],
)
def test_a_refusal_names_fields_and_never_keys_or_values_of_the_data(names: dict[str, Any]) -> None:
    reason, detail = refusal(claim(UNIT, names=names))
    assert reason == "invalid_data"
    assert {error.partition(":")[0].rstrip(".*") for error in detail.split("; ")} == {"names"}
    assert not {"Sunita", "sunita", "9876543210", "call"} & set(detail.replace(".", " ").split())


def test_a_refusal_names_the_fields_and_places_of_lists() -> None:
    made = claim(JOINED, unit=7, platforms=["whatsapp", "Sunita"])
    assert refusal(made)[1] == "unit: string_type; platforms.1: string_pattern_mismatch"


@pytest.mark.parametrize("header", ["ce_id", "ce_type", "ce_subject", "ce_correlationid", "ce_source"])
def test_a_dead_letter_shows_no_header_that_may_hold_anything(header: str) -> None:
    shown = kept_headers(claim(JOINED, headers={header: b"Sunita Devi +919876543210"}))
    assert set(HEADERS) - set(shown) == {header, "ce_causationid"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_everything_that_was_released_is_within_the_bounds(path: Any) -> None:
    assert decode(record(path), NOW)


def test_a_publisher_whose_clock_is_a_little_ahead_is_believed() -> None:
    time = (NOW + MAX_AHEAD).isoformat().replace("+00:00", "Z")
    assert decode(claim(JOINED, headers={"ce_time": time.encode()}, joined_at=time), NOW)


def test_a_chain_without_ids_begins_with_the_event() -> None:
    made = claim(JOINED, headers={"ce_correlationid": None, "ce_traceparent": None})
    event = decode(made, NOW)
    assert event.correlation_id == event.id
    assert event.traceparent.endswith("-00")


AHEAD = {"notification.deferred": ("until",)}
"""Times that may lie ahead; they are `AnyTime`."""


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.event_type)
def test_every_field_of_every_event_is_bounded(event: type[Event]) -> None:
    schema = event.model_json_schema()
    assert list(_unbounded(schema["properties"], schema)) == []
    times = [name for name, field in schema["properties"].items() if field.get("format") == "date-time"]
    assert [*event.past_fields, *AHEAD.get(event.event_type, ())] == times


def _unbounded(fields: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for name, given in fields.items():
        field = schema["$defs"][given["$ref"].rpartition("/")[2]] if "$ref" in given else given
        if "anyOf" in field:
            yield from _unbounded({f"{name}|{n}": each for n, each in enumerate(field["anyOf"])}, schema)
            continue
        kind = field.get("type")
        bounded = {
            "string": "pattern" in field or "maxLength" in field or field.get("format") == "date-time",
            "integer": {"minimum", "maximum"} <= field.keys(),
            "number": {"minimum", "maximum"} <= field.keys(),
            "array": "maxItems" in field,
            "object": "properties" in field or {"maxProperties", "patternProperties"} <= field.keys(),
        }.get(kind, kind in ("boolean", "null"))
        if not (bounded or "enum" in field or "const" in field):
            yield name
        inner = [field.get("items"), *field.get("patternProperties", {}).values()]
        yield from _unbounded({f"{name}[]": each for each in inner if each}, schema)
        yield from _unbounded(
            {f"{name}.{n}": each for n, each in field.get("properties", {}).items()}, schema
        )


def fits(kind: Any, *values: object) -> bool:
    adapter = TypeAdapter(kind)
    return all(adapter.validate_python(value) == value for value in values)


def test_whatever_a_request_may_say_fits_into_an_event() -> None:
    """Otherwise an accepted request would make an event that nobody takes."""
    for schema in (
        GroupChange.model_json_schema()["properties"]["capacity"],
        GroupsSettings.model_json_schema()["properties"]["group_capacity"],
    ):
        assert fits(Seats, schema["minimum"], schema["maximum"])
    assert fits(PlaceNames, {"en": "x" * NAME_LIMIT, "hi": "म" * NAME_LIMIT})
    assert fits(Share, 0.0, 1.0)
    assert TypeAdapter(WomenTarget).json_schema()["anyOf"][0].items() >= {"minimum": 0, "maximum": 1}.items()
    longest = TypeAdapter(UnitCode).json_schema()["maxLength"]
    assert fits(EventUnit, "B", "-".join(["B" * 12] * MAX_LEVELS))
    assert len("-".join(["B" * 12] * MAX_LEVELS)) == longest
    assert fits(Id, new_id(), OTHER)
    for vocabulary in (Channel, Gender, GroupKind, Platform, Purpose, UnitLevel):
        assert fits(Word, *(word.value for word in vocabulary))
    assert fits(LanguageCode, *(language.value for language in Language))
    assert fits(Words, tuple(Platform), tuple(Channel))
    for request_id in (new_id(), new_id().upper(), "f" * 32, "7" + "Z" * 25):
        assert _REQUEST_ID.fullmatch(request_id.encode())
        assert re.fullmatch(HEADERS["ce_correlationid"], request_id)


def test_the_whole_catalogue_is_of_the_publisher_of_its_topic() -> None:
    sources: dict[str, set[str]] = {}
    for event in BY_TYPE.values():
        sources.setdefault(event.topic, set()).add(event.source)
    assert all(len(each) == 1 for each in sources.values())


def test_sums_of_capacities_cannot_overflow_a_counter() -> None:
    """The sums are those of 100,000 groups, each changed a thousand times."""
    most = TypeAdapter(Seats).json_schema()["maximum"]
    assert most * 100_000 * 1000 < 2**63


@pytest.mark.parametrize("field", ["roles", "platforms", "channels"])
def test_a_list_is_refused_at_its_first_bad_word(field: str) -> None:
    data: Any = {field: ["A"] * 9000}
    assert refusal(claim(JOINED, **data)) == (
        "invalid_data",
        f"{field}.0: string_pattern_mismatch",
    )


def test_a_refusal_does_not_name_thousands_of_fields() -> None:
    reason, detail = refusal(claim(UNIT, names={f"x{n}": 1 for n in range(4000)}))
    assert (reason, detail.split()[1]) == ("invalid_data", "fields")
    assert int(detail.split()[0]) >= 4000


def test_a_value_larger_than_any_honest_one_is_not_parsed() -> None:
    assert refusal(claim(JOINED, roles=["a"] * 20_000))[0] == "too_large"
    names = {f"{a}{b}": "ह" * 200 for a in "abcdefgh" for b in "abcd"}
    assert decode(claim(UNIT, names=names), NOW)  # the largest that a publisher may write, escaped
