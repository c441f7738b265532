"""The rules of membership, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.members.domain import (
    Application,
    Changes,
    Contact,
    HasLeft,
    Member,
    is_plausible_birth_year,
    join,
    leave,
    move,
    update,
)
from services.shared.contracts.vocabulary import Gender

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
CONTACT = Contact("+919812345678", "a@example.org", {"whatsapp": "asha", "x": "@asha"})
APPLICATION = Application(
    name="Asha",
    unit="BR-SARAN",
    contact=CONTACT,
    gender="female",
    language="hi",
    birth_year=1990,
    consents=(("welcome", "sms", "1", "hi"), ("broadcast", "email", "1", "hi")),
)


@pytest.fixture
def member() -> Member:
    return join(APPLICATION, "m", NOW)[0]


def test_joining() -> None:
    member, event = join(APPLICATION, "m", NOW)
    assert (member.version, member.status, member.joined_at, member.updated_at) == (1, "active", NOW, NOW)
    assert [(c.purpose, c.channel, c.at, c.source, c.state) for c in member.consents] == [
        ("welcome", "sms", NOW, "registration", "given"),
        ("broadcast", "email", NOW, "registration", "given"),
    ]
    assert (event.member_id, event.unit, event.gender, event.language) == (
        "m",
        "BR-SARAN",
        Gender.FEMALE,
        "hi",
    )
    assert event.platforms == ("whatsapp", "x")
    assert event.joined_at == NOW


@pytest.mark.parametrize(
    ("consents", "email", "channels"),
    [
        ((), "a@b.in", ()),
        ((("broadcast", "sms"),), "a@b.in", ()),
        (
            (("welcome", "email"), ("welcome", "sms"), ("welcome", "whatsapp")),
            "a@b.in",
            ("whatsapp", "sms", "email"),
        ),
        ((("welcome", "email"), ("welcome", "sms")), None, ("sms",)),
        ((("welcome", "email"),), None, ()),
    ],
)
def test_the_channels_of_a_welcome(
    consents: tuple[tuple[str, str], ...], email: str | None, channels: tuple[str, ...]
) -> None:
    application = replace(
        APPLICATION,
        contact=replace(CONTACT, email=email),
        consents=tuple((purpose, channel, "1", "hi") for purpose, channel in consents),
    )
    assert join(application, "m", NOW)[1].channels == channels


def test_an_update_is_one_version_and_one_event(member: Member) -> None:
    changed = update(member, CONTACT, Changes(name="Asha Kumari", email="b@example.org"), LATER)
    assert changed is not None
    new, contact, event = changed
    assert new == replace(member, name="Asha Kumari", version=2, updated_at=LATER)
    assert contact == replace(CONTACT, email="b@example.org")
    assert event.contact_changed


def test_removing_optional_fields(member: Member) -> None:
    changed = update(member, CONTACT, Changes(handles={}, removed=frozenset({"email", "birth_year"})), LATER)
    assert changed is not None
    new, contact, event = changed
    assert (new.birth_year, new.platforms) == (None, ())
    assert contact == Contact(CONTACT.phone)
    assert event.contact_changed


def test_handles_are_not_what_others_cache(member: Member) -> None:
    changed = update(member, CONTACT, Changes(handles={"x": "@other"}), LATER)
    assert changed is not None
    assert not changed[2].contact_changed
    assert changed[2].platforms == ("x",)


@pytest.mark.parametrize(
    "changes",
    [Changes(), Changes(name="Asha", phone=CONTACT.phone, handles=CONTACT.handles, birth_year=1990)],
)
def test_an_update_to_the_same_is_none(member: Member, changes: Changes) -> None:
    assert update(member, CONTACT, changes, LATER) is None


def test_moving(member: Member) -> None:
    moved = move(member, "BR-GAYA", LATER)
    assert moved is not None
    assert moved[0] == replace(member, unit="BR-GAYA", version=2, updated_at=LATER)
    assert (moved[1].from_unit, moved[1].unit) == ("BR-SARAN", "BR-GAYA")
    assert move(moved[0], "BR-GAYA", LATER) is None


def test_leaving_ends_all_changes(member: Member) -> None:
    gone = leave(member, LATER)
    assert gone is not None
    left, event = gone
    assert left == replace(member, status="left", version=2, updated_at=LATER)
    assert (event.member_id, event.unit) == ("m", "BR-SARAN")
    assert leave(left, LATER) is None
    with pytest.raises(HasLeft):
        move(left, "BR-GAYA", LATER)
    with pytest.raises(HasLeft):
        update(left, CONTACT, Changes(name="B"), LATER)


@pytest.mark.parametrize(
    ("year", "plausible"), [(1905, False), (1906, True), (2013, True), (2014, False), (2027, False)]
)
def test_plausible_birth_years(year: int, plausible: bool) -> None:
    assert is_plausible_birth_year(year, NOW) is plausible
