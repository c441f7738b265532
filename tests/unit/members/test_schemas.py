"""Requests as they become values of the domain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from services.members.core.changing import Changes
from services.members.core.contacts import CONTACT
from services.members.core.domain import Consent, Contact, Member, Role
from services.members.core.joining import join
from services.members.core.schemas import Email, MemberShown, member_view
from services.members.core.store import MEMBER, SealedContact, document_of, record_of
from services.members.profile.schemas import MemberPatch
from services.members.registration.schemas import Registration
from services.members.settings import MembersSettings
from services.shared.encryption import Ciphertext
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PERSON: dict[str, Any] = {"name": "Asha", "phone": "9812345678", "unit": "BR"}
EMAIL: TypeAdapter[str] = TypeAdapter(Email)


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("asha@example.org", "asha@example.org"),
        (" Asha.D+x@EXAMPLE.Org\u200b", "Asha.D+x@example.org"),
        ("आशा@उदाहरण.भारत", "आशा@उदाहरण.भारत"),
        ("a@xn--p1b6ci4b4b3a.xn--h2brj9c", "a@xn--p1b6ci4b4b3a.xn--h2brj9c"),
    ],
)
def test_addresses(typed: str, address: str) -> None:
    assert EMAIL.validate_python(typed) == address


@pytest.mark.parametrize(
    "typed",
    ["", "a", "a@", "@b.in", "a@b", "a@@b.in", "a b@c.in", "a@-b.in", "a@b-.in", "a@b..in", "a@b.in,c@d.in",
     "<a@b.in>", "a@b.in\r\nBcc: c@d.in", "a" * 65 + "@b.in", "a@" + "b." * 130 + "in", None, 5],
)  # fmt: skip
def test_what_is_no_address(typed: object) -> None:
    with pytest.raises(ValidationError):
        EMAIL.validate_python(typed)


@given(st.text("a@.-é ", max_size=300))
def test_checking_an_address_is_quick_and_idempotent(typed: str) -> None:
    try:
        address = EMAIL.validate_python(typed)
    except ValidationError:
        return
    assert EMAIL.validate_python(address) == address


def test_handles_are_in_one_order_however_typed() -> None:
    handles = [{"platform": "x", "handle": "a"}, {"platform": "whatsapp", "handle": "b"}]
    one = Registration.model_validate(PERSON | {"platforms": handles}).application()
    other = Registration.model_validate(PERSON | {"platforms": handles[::-1]}).application()
    assert one == other
    assert list(one.contact.handles) == ["whatsapp", "x"]


def test_a_patch_tells_absent_from_null() -> None:
    assert MemberPatch.model_validate({}).changes() == Changes()
    assert MemberPatch.model_validate({"email": None, "gender": None}).changes() == Changes(
        gender="undisclosed", removed=frozenset({"email"})
    )
    assert MemberPatch.model_validate({"platforms": []}).changes() == Changes(handles={})


def test_errors_of_a_body_do_not_contain_it() -> None:
    with pytest.raises(ValidationError) as refused:
        Registration.model_validate(PERSON | {"email": "secret-address", "phone": "55555-secret"})
    assert "secret" not in str(refused.value)


def test_settings_show_no_keys() -> None:
    keys = {"master_keys": {"a": "QUFB" * 32}, "blind_index_key": "QUFB" * 10 + "QUE="}
    with pytest.raises(ValidationError) as refused:
        MembersSettings.model_validate(keys | {"blind_index_key": "QUFB"})
    assert "QUFB" not in str(refused.value)
    settings = MembersSettings.model_validate(keys)
    assert "AAA" not in repr(settings)
    assert "QUFB" not in repr(settings)


def test_the_documented_answer_is_the_answer() -> None:
    application = Registration.model_validate(
        PERSON | {"consents": [{"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}]}
    ).application()
    member = join(application, id_of("m"), NOW).state
    assert list(member_view(member, application.contact)) == list(MemberShown.model_fields)
    assert set(MemberShown.model_fields) - set(member_view(member, None)) == {"phone", "email"}


MEMBER_IN_FULL = Member(
    id="m",
    name="Asha देवी",
    unit="BR",
    gender="female",
    language="hi",
    birth_year=1990,
    platforms=("x",),
    roles=(Role("booth_lead", "BR"),),
    consents=(Consent("welcome", "sms", "1", "hi", at=NOW),),
    inviter_id="i",
    joined_at=NOW,
    updated_at=NOW,
)
STORED = {
    "_id": "m",
    "name": "Asha देवी",
    "words": ["asha", "देवी"],
    "unit": "BR",
    "gender": "female",
    "language": "hi",
    "birth_year": 1990,
    "platforms": ["x"],
    "roles": [{"role": "booth_lead", "unit": "BR"}],
    "consents": [
        {
            "purpose": "welcome",
            "channel": "sms",
            "notice": "1",
            "language": "hi",
            "at": NOW,
            "source": "registration",
            "state": "given",
        }
    ],
    "status": "active",
    "inviter_id": "i",
    "joined_at": NOW,
    "updated_at": NOW,
    "version": 1,
}
"""The document of release 0.1, which runs beside this one during an upgrade."""
SEARCHED = {
    "keys": ["As", "db", "~ash+देव", "^As+db"],
    "units": ["BR"],
    "facets": ["* platform:x", "BR platform:x", "* role:booth_lead", "BR role:booth_lead"],
    "searchable": "2:1",
}
"""Added by this release, and ignored by that one."""


def test_documents_are_those_of_the_last_release() -> None:
    assert document_of(MEMBER_IN_FULL) == STORED | SEARCHED
    sealed = Ciphertext(b"sealed")
    stored = document_of(MEMBER_IN_FULL, SealedContact(sealed, "index"))
    assert stored == STORED | SEARCHED | {"contact": sealed, "phone_index": "index"}
    assert record_of(stored).member == MEMBER_IN_FULL


def test_what_has_no_value_is_not_stored() -> None:
    bare = replace(MEMBER_IN_FULL, birth_year=None, inviter_id=None)
    document = document_of(bare)
    assert set(STORED) - set(document) == {"birth_year", "inviter_id"}
    rare = {"origin", "announced", "merged_into", "reached_by", "minor", "preferred_channel"}
    assert set(MEMBER.omitted) == {"birth_year", "inviter_id"} | rare
    assert MEMBER.decode(document) == bare


def test_a_sealed_contact_is_that_of_the_last_release() -> None:
    contact = Contact("+919812345678", None, {"x": "@asha"})
    document = {"phone": "+919812345678", "email": None, "handles": {"x": "@asha"}}
    assert CONTACT.encode(contact) == document
    assert CONTACT.decode(document) == contact
