"""The rules of merging, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.members.core.changing import Profile
from services.members.core.domain import (
    MERGE_UNDONE,
    Consent,
    Contact,
    Member,
    with_consent,
    withdrawn,
)
from services.members.core.joining import Application, join
from services.members.merges.domain import (
    Field,
    Side,
    Trace,
    Values,
    change,
    given_back,
    giving,
    merge_into,
    part,
    surviving,
    taken_over,
    values,
    with_values,
    without,
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
PAIR = (id_of("one"), id_of("other"))
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
    before, after = values(one), surviving(values(one), values(other), choice, PAIR)
    merged = with_values(one, after)
    assert values(merged) == after
    traces = {"m": Trace(PAIR, choice, values(other), before, after)}
    assert without(traces, "m", values(merged)) == (before, {})
    for name, side in choice.items():
        if name not in (Field.HANDLES, Field.INVITER):
            assert after[name] == values(one if side is Side.SURVIVOR else other)[name]
    assert set(after[Field.HANDLES]) == {*one.contact.handles, *other.contact.handles}
    touched = {**values(merged), Field.NAME: "Somebody since"}
    assert without(traces, "m", touched)[0][Field.NAME] == "Somebody since"


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


KEYS = "abcd"


class Register:
    """Four records that are merged, parted and changed by hand, and what each of them is by itself: what it
    was registered with, and what somebody changed since."""

    def __init__(self) -> None:
        self.stored: dict[str, Values] = {key: self._registered(n, key) for n, key in enumerate(KEYS)}
        self.own: dict[str, Values] = {key: dict(fields) for key, fields in self.stored.items()}
        self.into: dict[str, str] = {}
        self.merges: dict[str, Trace] = {}
        self.phones_taken: set[str] = set()
        """Records that were given the number of one who is merged into them: it goes back with that one."""

    @staticmethod
    def _registered(n: int, key: str) -> Values:
        of = profile(key, (key, f"{key}@x" if n % 2 else None, "undisclosed", 1950 + n, {"x": key, key: key}))
        fields = {**values(of), Field.PHONE: f"+{n}"}
        return fields if n != 3 else {**fields, Field.PHONE: "", Field.REACHED_BY: "somebody"}

    def merge(self, one: str, other: str, choice: dict[Field, Side]) -> None:
        if one == other or one in self.into or other in self.into:
            return
        before, theirs = self.stored[one], self.stored[other]
        after = surviving(before, theirs, choice, (one, other))
        self.merges[f"{one}<{other}.{len(self.merges)}"] = Trace((one, other), choice, theirs, before, after)
        self.stored[one], self.into[other] = after, one

    def undo(self, n: int) -> None:
        open_ = [id_ for id_, trace in self.merges.items() if trace.pair[0] not in self.into]
        if not open_:
            return
        gone = open_[n % len(open_)]
        one, other = self.merges[gone].pair
        traces = {id_: trace for id_, trace in self.merges.items() if trace.pair[0] == one}
        self.stored[one], standing = without(traces, gone, self.stored[one])
        del self.merges[gone], self.into[other]
        self.merges |= standing

    def edit(self, key: str, name: Field, value: str, odd: bool) -> None:
        """Every value is a new one, so that each edit can be seen; `odd`: a handle is removed, and the phone
        is that of one who is merged."""
        if key in self.into:
            return
        merged = sorted(each for each, into in self.into.items() if into == key)
        numbers = [self.stored[each][Field.PHONE] for each in merged if self.stored[each][Field.PHONE]]
        if name is Field.PHONE and numbers and odd:
            free = set(numbers) - {self.stored[each][Field.PHONE] for each in KEYS if each not in self.into}
            if not free:
                return
            value = min(free)
            self.phones_taken.add(key)
        for fields in (self.stored, self.own):
            new: Any = {**fields[key][Field.HANDLES], "x": value} if name is Field.HANDLES else value
            if name is Field.HANDLES and odd:
                new.pop("x", None)
            fields[key] = {**fields[key], name: new}
            if name is Field.PHONE:
                fields[key] = {**fields[key], Field.REACHED_BY: None}

    def check_phones(self) -> None:
        held = [self.stored[key][Field.PHONE] for key in KEYS if key not in self.into]
        assert len([phone for phone in held if phone]) == len({phone for phone in held if phone})


RECORDS = st.sampled_from(KEYS)
INTO = st.sampled_from("aaaab")
CHOSEN = st.sampled_from([{}, dict.fromkeys(Field, Side.OTHER), {Field.PHONE: Side.OTHER}])
EDITED = st.sampled_from([Field.NAME, Field.EMAIL, Field.PHONE, Field.UNIT, Field.HANDLES])
DONE = st.lists(
    st.one_of(
        st.tuples(st.just("merge"), INTO, RECORDS, CHOSEN),
        st.tuples(st.just("merge"), RECORDS, RECORDS, CHOICES),
        st.tuples(st.just("undo"), st.integers(0, 3)),
        st.tuples(st.just("edit"), INTO, EDITED, st.booleans()),
    ),
    min_size=5,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(DONE, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_once_all_merges_are_undone_everybody_is_what_they_are_by_themselves(
    done: list[tuple[Any, ...]], order: list[int]
) -> None:
    register = Register()
    for n, (act, *what) in enumerate(done):
        if act == "edit":
            register.edit(what[0], what[1], f"by hand {n}", what[2])
        else:
            getattr(register, act)(*what)
        register.check_phones()
    for n in order:
        register.undo(n)
        register.check_phones()
    assert not register.merges
    for key in KEYS:
        stored, own = dict(register.stored[key]), dict(register.own[key])
        if key in register.phones_taken:
            for fields in (stored, own):
                del fields[Field.PHONE], fields[Field.REACHED_BY]
        assert stored == own


@given(st.lists(CONSENTS, min_size=3, max_size=3), st.permutations([1, 2]))
def test_undoing_merges_ends_what_came_with_them_and_nothing_else(
    said: list[dict[tuple[str, str], str]], order: list[int]
) -> None:
    survivor, *others = (member(f"m{n}", consents) for n, consents in enumerate(said))
    fields = values(Profile(survivor, Contact("p")))
    traces: dict[str, Trace] = {}
    for n, other in enumerate(others, 1):
        news = taken_over(survivor, other, NOW)
        survivor = with_consents(survivor, news)
        given_ = tuple((c.purpose, c.channel) for c in news if c.state == "given")
        traces[str(n)] = Trace((survivor.id, other.id), {}, fields, fields, fields, given_)
    for merge_id in map(str, order):
        gone = traces.pop(merge_id)
        standing = [(id_, trace, others[int(id_) - 1]) for id_, trace in traces.items()]
        back = given_back(survivor, gone, standing, NOW)
        survivor = with_consents(survivor, [each.consent for each in back])
        traces = giving(traces, back)
        given_to = [said[0], *(said[int(id_)] for id_ in traces)]
        refused = {pair for each in said for pair, state in each.items() if state == "withdrawn"}
        wanted = {pair for each in given_to for pair, state in each.items() if state == "given"} - refused
        assert {(c.purpose, c.channel) for c in survivor.consents if c.state == "given"} == wanted
    again = taken_over(member("new", dict.fromkeys(PAIRS, "given")), survivor, NOW)
    assert {(c.purpose, c.channel) for c in again} == {
        pair for each in said for pair, state in each.items() if state == "withdrawn"
    }, "what ended with a merge is no withdrawal"
    for ended in (c for c in survivor.consents if c.source == MERGE_UNDONE):
        pair = (ended.purpose, ended.channel)
        assert withdrawn(survivor, *pair, "staff", NOW), "a no to it is news"
        assert taken_over(survivor, member("new", {pair: "given"}), NOW)


def test_a_number_of_the_one_who_is_parted_that_a_third_record_has_too_is_theirs() -> None:
    one, two, three = (values(profile(key, ("Asha", None, "other", None, {}))) for key in "abc")
    three = {**three, Field.PHONE: two[Field.PHONE]}  # registered with the number that was free
    choice = {Field.PHONE: Side.OTHER}
    after = surviving(one, three, choice, ("a", "c"))
    traces = {"m": Trace(("a", "b"), {}, two, one, one), "n": Trace(("a", "c"), choice, three, one, after)}
    assert without(traces, "m", after)[0] == one
    edited = {**one, Field.PHONE: two[Field.PHONE]}
    assert without({"m": traces["m"]}, "m", edited)[0] == one, "nor by hand"
    left = {"m": replace(traces["m"], status="left")}
    assert without(left, "m", edited)[0] == edited, "who left has no number"


def test_what_was_changed_between_two_merges_outlives_both() -> None:
    """A change between two merges stays when both are undone, the first one first."""
    one, two, three = (values(profile(key, (key, None, "other", None, {}))) for key in "abc")
    choice = {Field.NAME: Side.OTHER}
    first = surviving(one, two, choice, ("a", "b"))
    edited = {**first, Field.EMAIL: "by hand"}
    last = surviving(edited, three, choice, ("a", "c"))
    traces = {
        "m": Trace(("a", "b"), choice, two, one, first),
        "n": Trace(("a", "c"), choice, three, edited, last),
    }
    between, traces = without(traces, "m", last)
    assert (between[Field.NAME], between[Field.EMAIL]) == ("c", "by hand")
    assert without(traces, "n", between) == ({**one, Field.EMAIL: "by hand"}, {})


def with_consents(of: Member, news: list[Consent]) -> Member:
    for consent in news:
        of = replace(of, consents=with_consent(of.consents, consent))
    return of


def test_the_events_of_a_merge_tell_who_may_be_a_minor() -> None:
    one, young = member("one"), replace(member("other"), birth_year=2010)
    after = Profile(replace(one, birth_year=2010), Contact("p"))
    step = change(Profile(one, Contact("p")), after, [], NOW)
    assert (step.events[0].event.adult, step.state.minor) == (False, True)  # type: ignore[attr-defined]
    [(merged, _)] = merge_into(young, one.id, NOW).events
    assert merged.adult is False  # type: ignore[attr-defined]
    late = NOW.replace(year=2030)
    [(parted, _)] = part(merge_into(young, one.id, NOW).state, "active", late).events
    assert parted.adult is True  # type: ignore[attr-defined]
