"""The page of a dossier: everything is escaped, nothing is loaded, and it is asked for by `Accept`."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from services.members.dossier.api import prefers_page
from services.members.dossier.page import POLICY, Page

AT = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "</style><b>",
    "\u202egnp",
]


def view(text: str = "आशा देवी", count: int = 1) -> dict[str, Any]:
    """The values of a `DossierShown`, with `text` wherever people's words can be."""
    profile: dict[str, Any] = dict.fromkeys(
        ("id", "name", "unit", "status", "gender", "language", "origin", "phone", "email"), text
    )
    profile |= {"birth_year": 1990, "inviter_id": None, "reached_by": None, "joined_at": AT, "updated_at": AT}
    consent: dict[str, Any] = dict.fromkeys(
        ("purpose", "channel", "state", "notice", "language", "source", "actor", "evidence"), text
    )
    message: dict[str, Any] = dict.fromkeys(
        ("purpose", "channel", "state", "reason", "address", "text"), text
    )
    record = {
        "profile": profile | {"platforms": [{"platform": "x", "handle": text}]},
        "consents": [consent | {"at": AT}],
        "roles": [{"role": "youth", "unit": text, "since": AT}],
        "role_changes": [{"at": AT, "change": "given", "role": "youth", "unit": text}],
        "groups": {
            "placement": {
                "state": "assigned",
                "unit": text,
                "group_name": {"en": text},
                "since": AT.isoformat(),
            }
        },
        "notifications": {
            "messages": [message | {"created_at": "2026-11-27T09:30:00Z"}] * count,
            "total": count,
        },
        "analytics": {"member": {"unit": text, "platforms": [text, "x"]}, "placement": None},
    }
    grievance: dict[str, Any] = dict.fromkeys(("kind", "state", "text", "answer"), text)
    return {
        **record,
        "made_at": AT,
        "merged": [record],
        "merges": [{"at": AT, "other": "2", "survivor": "1", "by": text}],
        "notices": [{"version": "1", "language": "hi", "text": text, "sha256": "ab"}],
        "grievances": [grievance | {"opened_at": AT, "due_at": AT, "answered_at": None}],
        "imports": [{"at": AT, "id": "1", "unit": text, "by": text}],
        "reads": [{"at": AT, "subject": text, "via": "list"}] * count,
        "reads_total": 10_000,
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_people_typed_is_text(text: str) -> None:
    plain, page = Page().render(view("x")), Page().render(view(text))
    tags = re.compile(r"<[^>]*>")
    assert tags.findall(page) == tags.findall(plain)
    assert "49" not in tags.sub("", page)


def test_the_page_loads_nothing_and_its_policy_allows_its_own_style_alone() -> None:
    page = Page().render(view())
    assert not re.search(r"(src|href|url\()", page)
    [style] = re.findall(r"<style>(.*)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY


def test_the_largest_page_does_not_hold_the_service_up() -> None:
    page, spent = Page(), []
    for _ in range(3):  # a busy machine makes some of them slow
        began = time.thread_time()
        assert "1000 / 10000" in page.render(view(count=1000))
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.2


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("TEXT/HTML ; q=0.5, application/json;q=0.4", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=x", False),
        ("text/html;q=" + "9" * 5000, True),
    ],
)
def test_the_page_is_for_those_who_prefer_it(accept: str, wants: bool) -> None:
    assert prefers_page(accept) is wants
