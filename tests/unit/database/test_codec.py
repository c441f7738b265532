"""The codec maps a dataclass's declared fields to a document and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from bson import BSON
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from services.shared.clock import to_milliseconds
from services.shared.database import Codec, as_dict

AWARE: CodecOptions[dict[str, object]] = CodecOptions(tz_aware=True)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Wheel:
    size: int
    made_at: datetime
    maker: str | None = None


@dataclass(frozen=True, slots=True)
class Cart:
    id: str
    colour: Colour
    wheels: tuple[Wheel, ...] = ()
    labels: tuple[str, ...] = ()
    owner: str | None = None
    parked_at: datetime | None = None
    main: Wheel | None = None
    secret: bytes = b""
    sizes: dict[str, int] = field(default_factory=dict)


CODEC = Codec(Cart, id_field="id", omit_none=("owner",), exclude=("secret",))
TIMES = (
    st.integers(0, 4_000_000_000_000)
    .map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
    .map(to_milliseconds)
)
WORDS = st.text(max_size=5)
WHEELS = st.builds(Wheel, st.integers(0, 99), TIMES, st.none() | WORDS)
CARTS = st.builds(
    Cart,
    id=WORDS,
    colour=st.sampled_from(Colour),
    wheels=st.lists(WHEELS, max_size=3).map(tuple),
    labels=st.lists(WORDS, max_size=3).map(tuple),
    owner=st.none() | WORDS,
    parked_at=st.none() | TIMES,
    main=st.none() | WHEELS,
)


@given(CARTS)
def test_a_document_gives_the_aggregate_back(cart: Cart) -> None:
    stored = BSON.encode(CODEC.encode(cart)).decode(AWARE)
    assert CODEC.decode(stored) == cart


def test_the_form_of_a_document() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert CODEC.encode(Cart("c", Colour.RED, (Wheel(1, at),), ("a",))) == {
        "_id": "c",
        "colour": "red",
        "wheels": [{"size": 1, "made_at": at}],
        "labels": ["a"],
        "parked_at": None,
        "main": None,
        "sizes": {},
    }


def test_a_field_that_a_document_lacks_has_its_default() -> None:
    assert CODEC.decode({"_id": "c", "colour": "blue"}, secret=b"s") == Cart("c", Colour.BLUE, secret=b"s")


def test_the_keys_are_those_of_the_document() -> None:
    assert CODEC.keys[:3] == ("_id", "colour", "wheels")
    assert "secret" not in CODEC.keys


@dataclass(frozen=True, slots=True)
class Stop:
    name: str
    minutes: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    id: str
    stops: tuple[Stop, ...] = (Stop("depot"),)
    note: str | None = None
    fares: dict[str, int] = field(default_factory=dict)
    sealed: bytes


JOURNEYS = Codec(Journey, id_field="id", exclude=("sealed",))


def test_as_dict_gives_the_fields_in_order_with_values_as_they_are() -> None:
    journey = Journey(id="j", sealed=b"s")
    fields = as_dict(Journey)(journey)
    assert list(fields) == ["id", "stops", "note", "fares", "sealed"]
    assert fields["stops"] is journey.stops


def test_a_default_is_not_converted_and_not_shared() -> None:
    one, other = (JOURNEYS.decode({"_id": "j"}, sealed=b"s") for _ in range(2))
    assert one == Journey(id="j", sealed=b"s")
    assert one.fares is not other.fares


def test_null_stays_null() -> None:
    decoded = JOURNEYS.decode({"_id": "j", "stops": [{"name": "a"}], "note": None}, sealed=b"s")
    assert decoded == Journey(id="j", stops=(Stop("a"),), sealed=b"s")


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(KeyError):
        JOURNEYS.decode({}, sealed=b"s")
    with pytest.raises(TypeError):
        JOURNEYS.decode({"_id": "j"})
