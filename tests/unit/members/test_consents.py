"""The consent ledger, without a database: the state is what the entries add up to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.members.consents.domain import Given, give, withdraw
from services.members.consents.schemas import ConsentIn, NoticeIn
from services.members.core.domain import Contact, Member, agreed_channels, consent_of
from services.members.core.joining import Application, join
from services.members.core.ledger import LedgerEntry, entry_of, state_of, untaken, whole
from services.members.core.notices import digest_of
from services.shared.contracts.members import MemberConsentChanged
from services.shared.contracts.vocabulary import Channel, Purpose
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
PAIRS = [(purpose.value, channel.value) for purpose in Purpose for channel in Channel]
ACTS = st.tuples(st.sampled_from(PAIRS[:4]), st.sampled_from(["give", "give anew", "withdraw"]))


def registered(*pairs: tuple[str, str]) -> Member:
    application = Application(
        name="Asha",
        unit="BR-SARAN",
        contact=Contact("+919812345678"),
        gender="female",
        language="hi",
        consents=tuple((*pair, "1", "hi") for pair in pairs),
    )
    return join(application, id_of("m"), NOW).state


def given_(pair: tuple[str, str], notice: str = "1") -> Given:
    return Given(
        purpose=pair[0], channel=pair[1], notice=notice, language="hi", source="staff", evidence="form 7"
    )


@given(st.lists(st.sampled_from(PAIRS[:4]), unique=True), st.lists(ACTS, max_size=12))
def test_the_state_is_what_the_ledger_adds_up_to(
    at_registration: list[tuple[str, str]], acts: list[tuple[tuple[str, str], str]]
) -> None:
    member = registered(*at_registration)
    stored: list[LedgerEntry] = []
    expected = dict.fromkeys(at_registration, "given")
    for n, (pair, act) in enumerate(acts, 1):
        at = NOW + timedelta(minutes=n)
        before = member
        if act == "withdraw":
            member, events = withdraw(member, *pair, "staff", at)
            expected[pair] = "withdrawn"
        else:
            member, events = give(member, given_(pair, "2" if act == "give anew" else "1"), at)
            expected[pair] = "given"
        assert member.version == before.version + len(events)
        for event, sequence in events:
            consent = consent_of(member, *pair)
            assert consent is not None
            stored += [*untaken(before, (e.pair for e in stored)), entry_of(member, consent)]
            assert isinstance(event, MemberConsentChanged)
            assert (event.state, sequence) == (expected[pair], member.version)
            assert event.channels == agreed_channels(member.consents)
    ledger = whole(member, stored)
    assert state_of(ledger) == {(c.purpose, c.channel): c for c in member.consents}
    assert {pair: consent.state for pair, consent in state_of(ledger).items()} == expected
    assert [entry.sequence for entry in ledger] == sorted(entry.sequence for entry in ledger)
    assert whole(member, ledger) == ledger, "what is taken into the ledger is in it once"


def test_giving_the_same_again_changes_nothing_and_another_notice_does() -> None:
    member = registered(("welcome", "sms"))
    assert give(member, given_(("welcome", "sms")), NOW).events == ()
    again = give(member, given_(("welcome", "sms"), notice="2"), NOW).state
    assert [(c.notice, c.source) for c in again.consents] == [("2", "staff")]


def test_a_digest_is_of_the_utf_8_bytes() -> None:
    # echo -n "हाँ" | sha256sum
    assert digest_of("हाँ") == "4a3daa901d0a9a1e593e2cc45889df2a1765d4a6f9f05461ac5a12ceb9ed0755"


@pytest.mark.parametrize(
    "evidence", ["call +91 98123 45678", "९८१२३४५६७८", "asha@example.org", "", "x" * 101]
)
def test_evidence_is_a_reference_and_not_what_it_refers_to(evidence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ConsentIn(notice="1", language="hi", evidence=evidence)
    assert not evidence or evidence not in str(refused.value)


@pytest.mark.parametrize("text", ["", " \n ", "a\0b", "a\x1b[2Jb", "x" * 20_001, 7])
def test_a_notice_is_a_text_that_can_be_shown(text: object) -> None:
    with pytest.raises(ValidationError):
        NoticeIn.model_validate({"text": text})


def test_a_notice_keeps_its_lines_in_one_form() -> None:
    assert NoticeIn(text="  Line 1\r\nLine 2\n\ncafe\u0301 ").text == "Line 1\nLine 2\n\ncafé"
