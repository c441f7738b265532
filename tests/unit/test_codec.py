"""Code written by a codec: fields by name, values as they are, defaults for fields that a document lacks."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.shared.database import Codec, as_dict


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


CODEC = Codec(Journey, id_field="id", exclude=("sealed",))


def test_as_dict_gives_the_fields_in_order_with_values_as_they_are() -> None:
    journey = Journey(id="j", sealed=b"s")
    fields = as_dict(Journey)(journey)
    assert list(fields) == ["id", "stops", "note", "fares", "sealed"]
    assert fields["stops"] is journey.stops


def test_a_default_is_not_converted_and_not_shared() -> None:
    one, other = (CODEC.decode({"_id": "j"}, sealed=b"s") for _ in range(2))
    assert one == Journey(id="j", sealed=b"s")
    assert one.fares is not other.fares


def test_null_stays_null() -> None:
    decoded = CODEC.decode({"_id": "j", "stops": [{"name": "a"}], "note": None}, sealed=b"s")
    assert decoded == Journey(id="j", stops=(Stop("a"),), sealed=b"s")


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(KeyError):
        CODEC.decode({}, sealed=b"s")
    with pytest.raises(TypeError):
        CODEC.decode({"_id": "j"})
