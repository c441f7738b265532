"""Templates: what a text may contain, when a message is exactly what was registered, and how long it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.notifications.core.channel import Approved
from services.notifications.core.templates.catalogue import (
    LANGUAGES,
    NAMES,
    UNSUBSCRIBE,
    known,
    samples,
)
from services.notifications.core.templates.domain import (
    VARIABLE,
    Approval,
    ApprovalState,
    Rendered,
    TextVersion,
    Unfit,
    Wording,
    approval_faults,
    is_exact,
    is_of,
    wording_faults,
)
from services.notifications.core.templates.grammar import Source, UnrenderableError, faults, segments
from services.notifications.core.templates.letters import plain_of
from services.notifications.core.templates.prices import Price, price_of
from services.notifications.core.texts import Entry, Text, Texts, inlined
from services.notifications.templates.domain import sms_length, sms_notes

NOW = datetime(2026, 11, 1, tzinfo=UTC)
VARIABLES = ("name", "link")
PIECES = st.sampled_from(
    (
        *("{{", "}}", "{%", "%}", "{#", "#}", " if ", " else ", "endif", " for ", " in ", " set ", "macro"),
        *("name", "link", "name.x", "|upper", "|safe", "|attr", "[0]", "()", "'a'", "==", "not ", " and "),
        *(
            "range",
            "self",
            "__class__",
            "\n",
            "-",
            "~",
            "include 'x'",
            "\\",
            "नमस्ते",
            "1",
            "-%}",
            "{{ name }}",
        ),
    )
)
SOURCES = st.lists(PIECES, max_size=12).map("".join)


@given(st.one_of(SOURCES, st.text(max_size=60)))
@example("{{ " + "not " * 500 + "name }}")
@example("{{ " + "(" * 900 + "name" + ")" * 900 + " }}")
@example("{% if name %}" * 300 + "{% endif %}" * 300)
@example("{{" * 1000)
def test_whatever_passes_renders_in_the_sandbox_and_whatever_does_not_is_told(text: str):
    """A text is refused in words, or it does no more than put the values in: no other error comes of it."""
    found = faults(text, VARIABLES)
    assert all(isinstance(each, str) and len(each) < 300 for each in found)
    if not found:
        parts = segments(text)
        made = Source(text).render({"name": "आशा", "link": "L"})
        if parts is not None and "|" not in text:
            fixed = [part for part in parts if isinstance(part, str)]
            assert all(part in made for part in fixed)


@pytest.mark.parametrize(
    "text",
    [
        *("{% for a in name %}{% endfor %}", "{% set a = name %}", "{% macro a() %}{% endmacro %}"),
        *("{% include 'x' %}", "{% import 'x' as x %}", "{{ name.x }}", "{{ name['x'] }}", "{{ name() }}"),
        *("{{ name|safe }}", "{{ name|attr('x') }}", "{{ other }}", "{{ 9 ** 9 }}", "{{ name", "{# a #}"),
        *("{% raw %}{% endraw %}", "{{ name ~ name }}", "{{ name is defined }}", "{{ 'a\\ud800' }}"),
    ],
)
def test_only_values_conditions_and_a_few_filters_are_taken(text: str):
    assert faults(text, VARIABLES)


def test_a_condition_and_a_filter_are_taken():
    text = "{% if name == 'A' %}{{ name|upper }}{% elif not link %}-{% else %}{{ link }}{% endif %}"
    assert faults(text, VARIABLES) == []
    assert Source(text).render({"name": "B", "link": "L"}) == "L"
    with pytest.raises(UnrenderableError):
        Source(text).render({"name": "B"})


@pytest.mark.parametrize(
    "html",
    [
        *("<script>x</script>", "<p onclick='x'>x</p>", "<a href='javascript:x'>x</a>", "<b>"),
        "<p><b></p></b>",
        *("<!-- x -->", "<p style='a: url(http://x)'>x</p>", "<a href={{ link }}>x</a>", "<b>" * 900),
        *("<style>{{ name }}</style>", "<style>@import 'x'</style>", "<" * 40_000, "<p/>", "<link href='x'>"),
    ],
)
def test_html_that_runs_loads_or_does_not_close_is_refused(html: str):
    assert faults(html, VARIABLES, html=True)


def test_html_is_escaped_and_its_styles_go_to_its_elements():
    html = "<style>p{color:red}</style><p>{{ name }} <a href='https://x.in/?a={{ link }}'>x</a></p>"
    assert faults(html, VARIABLES, html=True) == []
    made = inlined(Source(html, html=True).render({"name": "<b>A</b>", "link": "'\"><script>"}))
    assert '<p style="color: red;">&lt;b&gt;A' in made
    assert """<a href="https://x.in/?a='&quot;><script>">x</a>""" in made, "within the quotes"


# -- exactness

FIXED = st.text(st.sampled_from("ab {}x"), max_size=6)
VALUE = st.text(st.sampled_from("ab {}xyz"), max_size=9)
SHAPE = st.tuples(FIXED, st.lists(st.tuples(st.integers(1, 3), FIXED.filter(bool)), max_size=4))


def _registered(shape: tuple[str, list[tuple[int, str]]]) -> str:
    return shape[0] + "".join(VARIABLE * run + fixed for run, fixed in shape[1])


def _by_trying(text: str, shape: tuple[str, list[tuple[int, str]]], limit: int) -> bool:
    """The same by trying each way to cut the text."""
    if not text.startswith(shape[0]):
        return False
    rest, left = text[len(shape[0]) :], shape[1]
    if not left:
        return rest == ""
    (run, fixed), after = left[0], left[1:]
    longest = min(run * limit, len(rest))
    return any(_by_trying(rest[taken:], (fixed, after), limit) for taken in range(longest + 1))


@given(SHAPE, st.data(), st.integers(1, 4))
def test_a_message_is_exact_if_and_only_if_its_values_fit_the_places(shape: Any, data: Any, limit: int):
    values = [data.draw(VALUE) for _ in shape[1]]
    text = shape[0] + "".join(value + fixed for value, (_, fixed) in zip(values, shape[1], strict=True))
    fits = all(len(value) <= run * limit for value, (run, _) in zip(values, shape[1], strict=True))
    assert is_exact(text, _registered(shape), limit) or not fits
    for each in (text, text + "!", "!" + text, text.replace("a", "c", 1), data.draw(VALUE)):
        assert is_exact(each, _registered(shape), limit) is _by_trying(each, shape, limit)


def test_no_text_makes_the_check_slow():
    assert not is_exact("a" * 2000 + "!", f"{VARIABLE}a" * 60, 30)


@pytest.mark.parametrize(
    ("text", "registered", "same"),
    [
        ("Hi {{ name }}, see {{ link }}.", "Hi {#var#}, see {#var#}.", True),
        ("Hi {{ name }}, see {{ link }}.", "Hi {#var#}, see {#var#}{#var#}.", True),
        ("{{ name }}{{ link }}", "{#var#}{#var#}", True),
        ("{{ name }}{{ link }}", "{#var#}", False),
        ("Hi {{ name }}", "Hi {#var#}!", False),
        ("Hi {{ name }}", "Hi  {#var#}", False),
        ("Hi {{ name }}", "Hi {#VAR#}", False),
        ("Hi", "Hi {#var#}", False),
        ("{% if name %}Hi{% endif %}", "Hi", False),
    ],
)
def test_a_text_is_the_registered_one_outside_the_places(text: str, registered: str, same: bool):
    assert is_of(text, registered) is same


def version(text: str, number: int = 1, *approvals: Approval, language: str = "hi") -> TextVersion:
    return TextVersion(
        id=f"welcome.{language}.{number}",
        name="welcome",
        language=language,
        version=number,
        wording=Wording(text),
        approvals=approvals,
    )


SMS = Approval("sms", ApprovalState.APPROVED, "1107", "service_implicit", NOW, text="Hi {#var#}: {#var#}")
CHAT = Approval(
    "whatsapp", ApprovalState.APPROVED, "hello", "utility", NOW, language="hi", variables=("link", "name")
)
HI = "Hi {{ name }}: {{ link }}"


@pytest.mark.parametrize(
    ("approval", "fields"),
    [
        (SMS, []),
        (CHAT, []),
        (replace(SMS, text="Hi {#var#}"), ["text"]),
        (replace(SMS, text=None, name="1 1", category="utility", header="a b"), None),
        (replace(SMS, language="hi", variables=("name",)), ["language", "variables"]),
        (replace(CHAT, name="Hello", language=None, text="x"), ["name", "language", "text"]),
        (replace(CHAT, variables=("name", "name")), ["variables"]),
        (replace(CHAT, variables=("code",), category="service_implicit"), ["category", "variables"]),
    ],
)
def test_an_approval_is_checked_when_it_is_put(approval: Approval, fields: list[str] | None):
    found = [field for field, _ in approval_faults(version(HI), approval)]
    assert found == (["name", "category", "header", "text"] if fields is None else fields)


class FakeStore:
    def __init__(self, *versions: TextVersion) -> None:
        self.versions, self.number, self.read = list(versions), 1, 0

    async def revision(self) -> int:
        return self.number

    async def everything(self) -> Any:
        self.read += 1
        for each in sorted(self.versions, key=lambda v: (v.name, v.language, -v.version)):
            yield each


VALUES: dict[str, str | Mapping[str, str]] = {
    "name": "Asha",
    "group": {"hi": "समूह", "en": "group"},
    "link": "L",
}


async def test_the_newest_version_that_is_approved_on_the_channel_is_used_there():
    store = FakeStore(
        version(HI, 1, SMS),
        version(HI + " two", 2, replace(SMS, state=ApprovalState.SUBMITTED), CHAT),
        version("{{ name }} en", 1, language="en"),
    )
    texts = Texts(store)  # type: ignore[arg-type]
    await texts.refresh()
    await texts.refresh()
    assert store.read == 1, "only a change is read"

    def made(channel: str, language: str = "hi", *, approved: bool = True, **changed: Any) -> Any:
        return texts.compose("welcome", language, channel, {**VALUES, **changed}, approved=approved)

    sms, chat, mail = made("sms"), made("whatsapp"), made("email", approved=False)
    assert (sms.version, sms.text, sms.approved.name) == (1, "Hi Asha: L", "1107")
    assert (chat.version, mail.version, mail.approved) == (2, 2, None)
    assert chat.approved == Approved("hello", "hi", "utility", (("link", "L"), ("name", "Asha")))
    assert made("sms", "en").language == "hi", "the language that is approved"
    assert made("sms", "en", approved=False).text == "Asha en"
    assert made("sms", name="x" * 31) is Unfit.NOT_EXACT
    assert made("sms", name="x" * 30).version == 1
    assert texts.compose("invite", "hi", "sms", VALUES, approved=True) is Unfit.NOT_APPROVED
    answer = texts.compose("stopped", "hi", "whatsapp", VALUES, approved=True)
    assert not isinstance(answer, Unfit), "an answer within the window"
    store.versions[0] = version(HI, 1, replace(SMS, state=ApprovalState.PAUSED))
    store.number += 1
    await texts.refresh()
    assert made("sms") is Unfit.NOT_APPROVED


async def test_a_stored_text_that_is_not_valid_any_more_is_passed_over():
    store = FakeStore(version("{% for x in name %}{% endfor %}", 2), version("two {{ name }}", 1))
    texts = Texts(store)  # type: ignore[arg-type]
    await texts.refresh()
    made = texts.compose("welcome", "hi", "email", VALUES)
    assert not isinstance(made, Unfit)
    assert made.text == "two Asha"


def test_a_test_is_marked_and_has_samples_for_what_is_missing():
    made = Texts().compose("test_welcome", "en", "email", {"name": "Asha"})
    assert not isinstance(made, Unfit)
    assert made.subject is not None
    assert made.subject.startswith("[Test] Welcome to ")
    assert samples("welcome", "en")["group"] in made.text


@pytest.mark.parametrize("language", [each.value for each in LANGUAGES])
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_text_is_valid_in_every_language_and_says_how_to_stop(name: str, language: str):
    texts = Texts()
    made = texts.compose(name, language, "sms", samples(name, language))
    assert not isinstance(made, Unfit)
    assert made.language == ("en" if language == "en" else "hi")
    assert "STOP" in made.text or name == "stopped", "a stop is confirmed by it"
    entry = texts.entry(name, made.language)
    assert isinstance(entry, Entry)
    assert isinstance(Text.of(entry.newest.version), Text)
    assert not list(wording_faults(name, entry.newest.version.wording))
    assert {*known(name).variables, UNSUBSCRIBE} == set(samples(name, language))


@pytest.mark.parametrize("language", ["hi", "en"])
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_text_is_a_letter_too_that_says_the_same_with_and_without_html(
    name: str, language: str
):
    made = Texts().compose(name, language, "email", samples(name, language))
    assert isinstance(made, Rendered)
    assert made.html is not None
    assert made.subject
    assert "{" not in made.subject + made.text + made.html
    assert "STOP" not in made.text, "nobody reads the answers"
    assert samples(name, language)[UNSUBSCRIBE] in made.text
    words = Words()
    words.feed(made.html)
    written_out = f": {samples(name, language)[UNSUBSCRIBE]}"
    assert " ".join(words.said) == " ".join(made.text.replace(written_out, "").split())
    without = Texts().compose(name, language, "email", samples(name, language) | {UNSUBSCRIBE: ""})
    assert isinstance(without, Rendered)
    assert "http" not in without.text.replace(samples(name, language).get("link", "-"), "")


class Words(HTMLParser):
    """The words between tags, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def handle_data(self, data: str) -> None:
        self.said += data.split()


def test_a_reader_of_plain_text_gets_what_is_seen():
    html = """<!doctype html><html><head><title>T</title><style>p { color: red }</style></head><body>
    <h1>Come &amp; see</h1><p>Two
    lines<br>of <b>one</b> <a href="https://example.org/a?b=1&amp;c=2">page</a>.</p>
    <ul><li>one</li><li><a href="mailto:a@example.org">a@example.org</a></li></ul>
    <table><tr><td>1</td><td title="a > b">2</td></tr></table></body></html>"""
    assert plain_of(html).splitlines() == [
        *("Come & see", "", "Two lines", "of one page: https://example.org/a?b=1&c=2.", ""),
        *("one", "a@example.org: mailto:a@example.org", "", "1 2"),
    ]


@given(st.text(alphabet="<>&\"'abc {}%/", max_size=60))
def test_a_value_is_a_value_in_a_letter_whatever_it_looks_like(value: str):
    made = Texts().compose("welcome_no_group", "en", "email", {"name": value, UNSUBSCRIBE: ""})
    assert isinstance(made, Rendered)
    assert made.html is not None
    assert made.text.startswith("Namaste " + " ".join(value.split()))
    assert made.html.count("<p>") == 3


# -- length and cost


@pytest.mark.parametrize(
    ("text", "parts", "said"),
    [
        ("a" * 160, 1, None),
        ("a" * 161, 2, "2 parts of up to 153"),
        ("a" * 100 + "₹", 2, "'₹' is not in the GSM alphabet: 2 parts instead of 1"),
        ("a" * 60 + "₹", 1, "'₹' is not in the GSM alphabet, but that makes no part more"),
        ("a" * 100 + "₹’", 2, "'₹', '’' are not in the GSM alphabet: 2 parts instead of 1"),
        ("नमस्ते आशा " * 8, 2, "letters outside the GSM alphabet: 2 parts of up to 70"),
        ("", 1, None),
    ],
)
def test_the_length_of_an_sms_is_explained(text: str, parts: int, said: str | None):
    assert sms_length(text).parts == parts
    notes = sms_notes(text)
    assert notes[0].startswith(said) if said else notes == [], notes


def test_a_price_is_that_of_the_day_and_of_the_category_first():
    def price(since: str, amount: str, category: str | None = None) -> Price:
        return Price("sms", date.fromisoformat(since), Decimal(amount), category)

    prices = [
        price("2026-01-01", "0.2"),
        price("2026-06-01", "0.3"),
        price("2026-03-01", "0.1", "promotional"),
    ]
    assert price_of(prices, "sms", None, date(2025, 12, 31)) is None
    assert price_of(prices, "sms", None, date(2026, 5, 31)) == Decimal("0.2")
    assert price_of(prices, "sms", None, date(2026, 6, 1)) == Decimal("0.3")
    assert price_of(prices, "sms", "promotional", date(2026, 6, 1)) == Decimal("0.1")
    assert price_of(prices, "email", None, date(2026, 6, 1)) is None
