"""The rules of membership, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.members.core.changing import Changes, HasLeftError, Profile, leave, move, update
from services.members.core.domain import Contact, Member, is_plausible_birth_year
from services.members.core.joining import Application, join
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.vocabulary import Gender
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
ID = id_of("m")
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
    return join(APPLICATION, ID, NOW).state


def joined(application: Application) -> MemberJoined:
    [(event, sequence)] = join(application, ID, NOW).events
    assert isinstance(event, MemberJoined)
    assert sequence == 1
    return event


def updated(step: Step[Profile]) -> MemberUpdated:
    [(event, sequence)] = step.events
    assert isinstance(event, MemberUpdated)
    assert sequence == step.state.member.version
    return event


def test_joining(member: Member) -> None:
    event = joined(APPLICATION)
    assert (member.version, member.status, member.joined_at, member.updated_at) == (1, "active", NOW, NOW)
    assert [(c.purpose, c.channel, c.at, c.source, c.state) for c in member.consents] == [
        ("welcome", "sms", NOW, "registration", "given"),
        ("broadcast", "email", NOW, "registration", "given"),
    ]
    assert (event.member_id, event.unit, event.gender, event.language) == (
        ID,
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
        ((("welcome", "email"), ("welcome", "sms")), None, ("sms", "email")),
        ((("welcome", "email"),), None, ("email",)),
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
    assert joined(application).channels == channels


def test_an_update_is_one_version_and_one_event(member: Member) -> None:
    step = update(
        Profile(member, CONTACT), Changes(name="Asha Kumari", email="b@example.org"), LATER, sees_contact=True
    )
    assert step.state.member == replace(member, name="Asha Kumari", version=2, updated_at=LATER)
    assert step.state.contact == replace(CONTACT, email="b@example.org")
    assert updated(step).contact_changed


def test_removing_optional_fields(member: Member) -> None:
    changes = Changes(handles={}, removed=frozenset({"email", "birth_year"}))
    step = update(Profile(member, CONTACT), changes, LATER, sees_contact=True)
    assert (step.state.member.birth_year, step.state.member.platforms) == (None, ())
    assert step.state.contact == Contact(CONTACT.phone)
    assert updated(step).contact_changed


def test_handles_are_not_what_others_cache(member: Member) -> None:
    event = updated(
        update(Profile(member, CONTACT), Changes(handles={"x": "@other"}), LATER, sees_contact=True)
    )
    assert not event.contact_changed
    assert event.platforms == ("x",)


@pytest.mark.parametrize(
    "changes",
    [Changes(), Changes(name="Asha", phone=CONTACT.phone, handles=CONTACT.handles, birth_year=1990)],
)
def test_an_update_to_the_same_changes_nothing(member: Member, changes: Changes) -> None:
    profile = Profile(member, CONTACT)
    assert update(profile, changes, LATER, sees_contact=True) == Step(profile)


@pytest.mark.parametrize(
    ("changes", "contact_changed"),
    [
        (Changes(phone=CONTACT.phone), True),
        (Changes(email=CONTACT.email), True),
        (Changes(handles=CONTACT.handles), False),
        (Changes(removed=frozenset({"email"})), True),
    ],
)
def test_a_guess_of_a_contact_that_is_not_shown_looks_like_a_change(
    member: Member, changes: Changes, contact_changed: bool
) -> None:
    contact = replace(CONTACT, email=None) if changes.removed else CONTACT
    step = update(Profile(member, contact), changes, LATER, sees_contact=False)
    assert updated(step).contact_changed is contact_changed
    assert step.state == Profile(replace(member, version=2, updated_at=LATER), contact)


def test_what_is_shown_anyway_can_be_guessed(member: Member) -> None:
    profile = Profile(member, CONTACT)
    for changes in (Changes(), Changes(name="Asha"), Changes(gender="female"), Changes(birth_year=1990)):
        assert update(profile, changes, LATER, sees_contact=False) == Step(profile)


def test_moving(member: Member) -> None:
    moved, events = move(member, "BR-GAYA", LATER)
    assert moved == replace(member, unit="BR-GAYA", version=2, updated_at=LATER)
    assert events == (Numbered(MemberMoved(member_id=ID, from_unit="BR-SARAN", unit="BR-GAYA"), 2),)
    assert move(moved, "BR-GAYA", LATER) == Step(moved)


def test_leaving_ends_all_changes(member: Member) -> None:
    left, events = leave(member, LATER)
    assert left == replace(member, status="left", version=2, updated_at=LATER)
    assert events == (Numbered(MemberLeft(member_id=ID, unit="BR-SARAN"), 2),)
    assert leave(left, LATER) == Step(left)
    with pytest.raises(HasLeftError):
        move(left, "BR-GAYA", LATER)
    with pytest.raises(HasLeftError):
        update(Profile(left, CONTACT), Changes(name="B"), LATER, sees_contact=True)


@pytest.mark.parametrize(
    ("year", "plausible"), [(1905, False), (1906, True), (2012, True), (2013, False), (2027, False)]
)
def test_plausible_birth_years(year: int, plausible: bool) -> None:
    assert is_plausible_birth_year(year, NOW) is plausible
