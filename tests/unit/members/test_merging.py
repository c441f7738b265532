"""The rules of merging, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.members.core.changing import Profile
from services.members.core.domain import Consent, Contact, Member, with_consent
from services.members.core.joining import Application, join
from services.members.merges.domain import (
    Field,
    Side,
    Trace,
    change,
    changed,
    reverted,
    surviving,
    taken_over,
    values,
    with_values,
)
from services.shared.contracts.members import MemberConsentChanged
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
PAIRS = [(purpose, channel) for purpose in ("welcome", "broadcast") for channel in ("sms", "email")]
CONSENTS = st.dictionaries(st.sampled_from(PAIRS), st.sampled_from(["given", "withdrawn"]))
TEXT = st.sampled_from([None, "one", "two"])
PROFILES = st.builds(
    lambda name, email, gender, year, handles: (name, email, gender, year, handles),
    st.sampled_from(["Asha", "Asha Devi"]),
    TEXT,
    st.sampled_from(["undisclosed", "female", "other"]),
    st.sampled_from([None, 1980, 1990]),
    st.dictionaries(st.sampled_from(["x", "facebook", "whatsapp"]), st.sampled_from(["a", "b"])),
)
CHOICES = st.dictionaries(st.sampled_from(Field), st.sampled_from(Side))


def member(key: str, consents: dict[tuple[str, str], str] | None = None) -> Member:
    made = join(
        Application("Asha", "BR-SARAN", Contact("+919812345678"), "female", "hi"), id_of(key), NOW
    ).state
    given = [
        Consent(*pair, notice=key, language="hi", at=NOW, state=state)
        for pair, state in (consents or {}).items()
    ]
    return replace(made, consents=tuple(given))


def profile(key: str, drawn: tuple[str, str | None, str, int | None, dict[str, str]]) -> Profile:
    name, email, gender, year, handles = drawn
    of = replace(member(key), name=name, gender=gender, birth_year=year, platforms=tuple(handles))
    return Profile(of, Contact(f"phone of {key}", email, handles))


def united(one: Member, other: Member) -> dict[tuple[str, str], str]:
    consents = one.consents
    for consent in taken_over(one, other, NOW):
        consents = with_consent(consents, consent)
    return {(c.purpose, c.channel): c.state for c in consents}


@given(CONSENTS, CONSENTS)
def test_a_withdrawal_on_either_side_wins_whichever_survives(
    ours: dict[tuple[str, str], str], theirs: dict[tuple[str, str], str]
) -> None:
    one, other = member("one", ours), member("other", theirs)
    said = {pair: {ours.get(pair), theirs.get(pair)} - {None} for pair in {*ours, *theirs}}
    wanted = {pair: "withdrawn" if "withdrawn" in states else "given" for pair, states in said.items()}
    assert united(one, other) == united(other, one) == wanted
    left = united(one, replace(other, status="left"))
    assert all(state == "withdrawn" or pair in ours for pair, state in left.items()), (
        "of who left nothing is given"
    )
    assert {pair for pair, state in left.items() if state == "withdrawn"} == {
        pair for pair, state in wanted.items() if state == "withdrawn"
    }


@given(PROFILES, PROFILES, CHOICES)
def test_undoing_at_once_restores_every_field(ours, theirs, choice) -> None:
    one, other = profile("one", ours), profile("other", theirs)
    before, after = values(one), surviving(one, other, choice)
    merged = with_values(one, after)
    assert values(merged) == after
    assert reverted(values(merged), Trace(fields=changed(before, after))) == before
    for name, side in choice.items():
        if name not in (Field.HANDLES, Field.INVITER):
            assert after[name] == values(one if side is Side.SURVIVOR else other)[name]
    assert set(after[Field.HANDLES]) == {*one.contact.handles, *other.contact.handles}
    touched = {**values(merged), Field.NAME: "Somebody since"}
    assert reverted(touched, Trace(fields=changed(before, after)))[Field.NAME] == "Somebody since"


@given(CONSENTS, CONSENTS)
def test_a_merge_makes_a_welcome_of_nobody_who_had_none(
    ours: dict[tuple[str, str], str], theirs: dict[tuple[str, str], str]
) -> None:
    one, other = Profile(member("one", ours), Contact("p")), member("other", theirs)
    consents = taken_over(one.member, other, NOW)
    step = change(one, one, consents, NOW + timedelta(days=1))
    assert [numbered.sequence for numbered in step.events] == list(range(2, step.state.version + 1))
    told = [numbered.event for numbered in step.events if isinstance(numbered.event, MemberConsentChanged)]
    assert [(event.purpose, event.channel) for event in told] == [(c.purpose, c.channel) for c in consents]
    if not any(pair[0] == "welcome" and state == "given" for pair, state in ours.items()):
        assert all(not event.announced for event in told if event.channels)
