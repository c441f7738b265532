"""Candidates for running a group, and the parts of the page that need no store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.groups.admins.domain import HeldRole, Lack, RoleHolder, candidates, problems
from services.groups.admins.page.forms import FormError, read_form
from services.groups.admins.page.limits import BURST, PageLimits
from services.groups.admins.page.tokens import PageTokens
from services.groups.admins.page.words import WORDS
from services.shared.clock import ManualClock

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = {"new": bytes(96), "old": b"o" * 96}


def holder(name: str, *roles: HeldRole) -> RoleHolder:
    return RoleHolder(name, 1, roles)


def test_the_nearest_are_suggested_first_and_nobody_twice() -> None:
    found = candidates(
        "BR-SARAN-MANJHI",
        [
            holder("state", HeldRole("coordinator", "BR")),
            holder("youth", HeldRole("youth", "BR-SARAN-MANJHI")),
            holder("here", HeldRole("coordinator", "BR-SARAN"), HeldRole("it_cell", "BR-SARAN-MANJHI")),
            holder("admin", HeldRole("coordinator", "BR-SARAN-MANJHI")),
            holder("over", HeldRole("coordinator", "BR-SARAN", NOW)),
            holder("elsewhere", HeldRole("coordinator", "BR-SIWAN")),
            holder("below", HeldRole("coordinator", "BR-SARAN-MANJHI-12")),
            holder("voice", HeldRole("spokesperson", "BR-SARAN")),
        ],
        {"admin"},
        NOW,
    )
    assert [(each.member_id, each.role) for each in found] == [
        ("here", "it_cell"),
        ("youth", "youth"),
        ("state", "coordinator"),
    ]


def test_what_a_group_lacks() -> None:
    assert problems(linked=True, admins=2) == []
    assert problems(linked=False, admins=0) == [Lack.NO_LINK, Lack.NO_ADMIN]
    assert problems(linked=True, admins=1) == [Lack.ONE_ADMIN]


def test_a_link_is_signed_expires_and_outlives_a_rotation_of_the_master_key() -> None:
    clock = ManualClock(NOW)
    tokens = PageTokens(KEYS, clock)
    token = tokens.sign("page", NOW + timedelta(days=1))
    assert tokens.read(token) == "page"
    newer = PageTokens({"newest": b"n" * 96, **KEYS}, clock)
    assert newer.read(token) == "page"
    assert newer.is_form_token("page", tokens.form_token("page")), "a form that was open meanwhile"
    assert not newer.is_form_token("another", tokens.form_token("page"))
    assert PageTokens({"other": b"x" * 96}, clock).read(token) is None
    clock.advance(timedelta(days=1))
    assert tokens.read(token) is None


@given(st.text(max_size=600))
def test_any_other_text_is_no_link(text: str) -> None:
    assert PageTokens(KEYS, ManualClock(NOW)).read(text) is None


def test_a_link_without_a_signature_is_none() -> None:
    tokens = PageTokens(KEYS, ManualClock(NOW))
    head, body, _ = tokens.sign("page", NOW + timedelta(days=1)).split(".")
    unsigned = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    for forged in (f"{head}.{body}.", f"{unsigned}.{body}.", f"{head}.{body}.{'A' * 43}"):
        assert tokens.read(forged) is None


def test_each_link_has_a_limit_of_its_own() -> None:
    now = [0.0]
    limits = PageLimits(lambda: now[0])
    assert [limits.admits("one") for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert limits.admits("two")
    now[0] += 2
    assert limits.admits("one")
    assert not all(limits.admits_unknown() for _ in range(100))


def test_forms() -> None:
    boundary = b"--x\r\n"
    body = b"".join(
        [
            boundary + b'Content-Disposition: form-data; name="text"\r\n\r\n+91 98765 43210\r\n',
            boundary + b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n'
            b"Content-Type: text/csv\r\n\r\na,b\r\nc\r\n",
            b"--x--\r\n",
        ]
    )
    fields = read_form("multipart/form-data; boundary=x", body)
    assert fields == {"text": b"+91 98765 43210", "file": b"a,b\r\nc"}
    assert read_form("application/x-www-form-urlencoded", b"a=1&a=2&b=") == {"a": b"1", "b": b""}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"&".join(b"a=%d" % n for n in range(50))),
    ],
)
def test_nonsense_is_no_form(kind: str, body: bytes) -> None:
    with pytest.raises(FormError):
        read_form(kind, body)


def test_both_languages_say_everything() -> None:
    assert WORDS["hi"].keys() == WORDS["en"].keys()
