"""Terms of roles, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.members.core.domain import Contact, Role
from services.members.core.joining import Application, join
from services.members.core.terms import Term, with_roles
from services.shared.contracts.members import MemberRolesChanged
from tests.fixtures.ids import id_of

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOURS = st.integers(-3, 3).map(lambda hours: NOW + timedelta(hours=hours))
MEMBER = join(
    Application("Asha", "BR-SARAN", Contact("+919812345678"), "female", "hi"), id_of("m"), NOW
).state


@st.composite
def terms(draw: st.DrawFn) -> Term:
    since = draw(HOURS)
    until = draw(st.none() | HOURS.filter(lambda end: end > since))
    role, unit = draw(st.sampled_from(["coordinator", "youth"])), draw(st.sampled_from(["BR", "BR-SARAN"]))
    return Term(id=f"{role}{unit}", member_id=MEMBER.id, role=role, unit=unit, since=since, until=until)


@given(terms(), HOURS)
def test_a_term_changes_exactly_when_it_says(term: Term, now: datetime) -> None:
    change = term.changes_at(now)
    step = timedelta(hours=1)
    later = [now + step * n for n in range(1, 8)]
    changes = [at for at in later if term.in_effect(at) != term.in_effect(at - step)]
    assert (changes[0] if changes else None) == change


@given(st.lists(terms(), unique_by=lambda term: term.id))
def test_roles_are_those_in_effect_and_published_once(held: list[Term]) -> None:
    now = {(t.role, t.unit) for t in held if t.since <= NOW and (t.until is None or t.until > NOW)}
    after, events = with_roles(MEMBER, held, NOW)
    assert {(role.role, role.unit) for role in after.roles} == now
    assert len(events) == bool(now)
    for event, sequence in events:
        assert isinstance(event, MemberRolesChanged)
        assert {(role.role, role.unit) for role in event.roles} == now
        assert sequence == after.version == 2
    assert with_roles(after, reversed(held), NOW).events == ()


def test_another_end_of_a_role_in_effect_is_published_and_one_of_a_later_role_is_not() -> None:
    term = Term(id="t", member_id=MEMBER.id, role="youth", unit="BR", since=NOW)
    member = replace(MEMBER, roles=(Role("youth", "BR"),))
    [(event, _)] = with_roles(member, [term], NOW, [term]).events
    assert isinstance(event, MemberRolesChanged)
    later = replace(term, unit="BR-SARAN", since=NOW + timedelta(days=1))
    assert with_roles(member, [term, later], NOW, [later]).events == ()
