"""Bad registrations get a clear problem; nothing that was sent is repeated, nothing is written."""

from __future__ import annotations

import pytest

from tests.integration.members.conftest import Service, a_person

BAD = [
    ("/phone", {"phone": "12345"}),
    ("/phone", {"phone": "+91 98123 45678 9012345"}),
    ("/phone", {"phone": "1800-FLOWERS"}),
    ("/phone", {"phone": 9812345678}),
    ("/phone", {"phone": ""}),
    ("/name", {"name": "\u200b\u202e \u2060"}),
    ("/name", {"name": "12345"}),
    ("/name", {"name": "x" * 201}),
    ("/unit", {"unit": "BR-saran"}),
    ("/unit", {"unit": "BR-A-B-C-D-E-F-G-H"}),
    ("/gender", {"gender": "F"}),
    ("/language", {"language": "tlh"}),
    ("/email", {"email": "asha@localhost"}),
    ("/email", {"email": "a@b.in\nBcc: c@d.in"}),
    ("/birth_year", {"birth_year": 1850}),
    ("/birth_year", {"birth_year": 2099}),
    ("/birth_year", {"birth_year": True}),
    ("/inviter_id", {"inviter_id": "me"}),
    ("/platforms", {"platforms": [{"platform": "x", "handle": "a"}, {"platform": "x", "handle": "b"}]}),
    ("/platforms/0/platform", {"platforms": [{"platform": "orkut", "handle": "a"}]}),
    ("/consents/0/notice", {"consents": [{"purpose": "welcome", "channel": "sms", "language": "hi"}]}),
    (
        "/consents",
        {"consents": [{"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}] * 2},
    ),
    ("/status", {"status": "left"}),
]


@pytest.mark.parametrize(("pointer", "change"), BAD)
async def test_bad_fields_are_named_and_not_repeated(
    empty: Service, pointer: str, change: dict[str, object]
) -> None:
    answer = await empty.post(a_person(**change))
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    [value] = change.values()
    assert not (isinstance(value, str) and len(value) > 4 and value in answer.text)
    assert await empty.nothing_written()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"name": NaN}', 400),
        (b"[" * 100_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b"", 422),
        (b'{"name": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
async def test_bad_bodies(empty: Service, content: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = await empty.http.post("/v1/members", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await empty.nothing_written()
