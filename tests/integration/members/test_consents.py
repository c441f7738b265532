"""Consents: given and withdrawn, with the ledger, its proof and the events."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from infra.local.keys import Keys
from services.members.settings import MembersSettings
from services.shared.contracts.members import MemberConsentChanged
from services.shared.database import Document
from tests.integration.members.conftest import UNIT, Service, serving

NOTICE = "हम आपको सूचना भेजेंगे।\nWe will write to you."
SCOPES = "members:read members:write consents:write"


async def register_notice(service: Service, version: str = "2", text: str = NOTICE) -> httpx2.Response:
    headers = service.app.auth("notices:write")
    return await service.http.put(f"/v1/notices/{version}/hi", json={"text": text}, headers=headers)


async def give(
    service: Service, member_id: str, what: str = "welcome/sms", *, unit: str = "*", **body: object
) -> httpx2.Response:
    body = {"notice": "2", "language": "hi", "evidence": "form 17", "source": "paper", **body}
    headers = service.app.auth(SCOPES, unit, sub="asha-of-staff")
    return await service.http.put(f"/v1/members/{member_id}/consents/{what}", json=body, headers=headers)


async def withdraw(service: Service, member_id: str, what: str = "welcome/sms") -> httpx2.Response:
    return await service.http.delete(f"/v1/members/{member_id}/consents/{what}")


async def ledger(service: Service, member_id: str) -> Any:
    answer = await service.http.get(f"/v1/members/{member_id}/consents")
    assert answer.status_code == 200
    return answer.json()


def registered(*channels: str) -> list[dict[str, str]]:
    return [{"purpose": "welcome", "channel": c, "notice": "old", "language": "hi"} for c in channels]


async def test_the_ledger_has_every_change_and_the_member_its_outcome(service: Service) -> None:
    member = await service.register(consents=registered("sms", "whatsapp"))
    id_ = member["id"]
    assert (await register_notice(service)).status_code == 201
    assert (await withdraw(service, id_)).status_code == 204
    given = await give(service, id_)
    assert (given.status_code, given.headers["etag"]) == (200, '"3"')
    assert (await give(service, id_)).headers["etag"] == '"3"', "the same again changes nothing"
    assert (await give(service, id_, "broadcast/email")).status_code == 200
    assert (await withdraw(service, id_, "broadcast/email")).status_code == 204
    assert (await withdraw(service, id_, "broadcast/email")).status_code == 204

    told = await ledger(service, id_)
    digest = hashlib.sha256(NOTICE.encode()).hexdigest()
    names = (
        "sequence",
        "purpose",
        "channel",
        "state",
        "notice",
        "source",
        "actor",
        "evidence",
        "notice_sha256",
    )
    assert [tuple(item[name] for name in names) for item in told["items"]] == [
        (1, "welcome", "sms", "given", "old", "registration", None, None, None),
        (1, "welcome", "whatsapp", "given", "old", "registration", None, None, None),
        (2, "welcome", "sms", "withdrawn", "old", "staff", "local", None, None),
        (3, "welcome", "sms", "given", "2", "paper", "asha-of-staff", "form 17", digest),
        (4, "broadcast", "email", "given", "2", "paper", "asha-of-staff", "form 17", digest),
        (5, "broadcast", "email", "withdrawn", "2", "staff", "local", None, None),
    ]
    shown = (await service.http.get(f"/v1/members/{id_}")).json()
    assert (shown["version"], shown["consents"]) == (5, told["state"])
    assert {(c["purpose"], c["channel"]): c["state"] for c in told["state"]} == {
        ("welcome", "whatsapp"): "given",
        ("welcome", "sms"): "given",
        ("broadcast", "email"): "withdrawn",
    }
    events = (await service.events(5))[1:]
    assert [
        (e.sequence, e.data.purpose, e.data.channel, e.data.state, e.data.channels)
        for e in events
        if isinstance(e.data, MemberConsentChanged)
    ] == [
        (2, "welcome", "sms", "withdrawn", ("whatsapp",)),
        (3, "welcome", "sms", "given", ("whatsapp", "sms")),
        (4, "broadcast", "email", "given", ("whatsapp", "sms")),
        (5, "broadcast", "email", "withdrawn", ("whatsapp", "sms")),
    ]
    told_to_senders = await service.http.post("/v1/members/resolve", json={"ids": [id_]})
    assert told_to_senders.json()["items"][0]["consents"] == [
        {"purpose": "welcome", "channel": "whatsapp"},
        {"purpose": "welcome", "channel": "sms"},
    ]


async def test_a_no_before_any_yes_is_on_record_and_a_later_yes_lifts_it(service: Service) -> None:
    member = await service.register(consents=registered("whatsapp"))
    id_ = member["id"]
    await register_notice(service)
    before = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(2):
        assert (await withdraw(service, id_, "broadcast/sms?source=phone")).status_code == 204
    for what in ("group/whatsapp", "welcome/sms"):
        assert (await withdraw(service, id_, what)).status_code == 204
    for word in ("merge", "merge_undone", "No"):
        assert (await withdraw(service, id_, f"reminder/sms?source={word}")).status_code == 422
    told = await ledger(service, id_)
    assert [(i["sequence"], i["purpose"], i["state"], i["source"], i["actor"]) for i in told["items"]] == [
        (1, "welcome", "given", "registration", None),
        (2, "broadcast", "withdrawn", "phone", "local"),
        (3, "group", "withdrawn", "staff", "local"),
        (4, "welcome", "withdrawn", "staff", "local"),
    ]
    assert {(i["notice"], i["language"], i["evidence"]) for i in told["items"][1:]} == {("", "", None)}
    assert all(datetime.fromisoformat(i["at"]) >= before for i in told["items"][1:])
    proof = await service.http.get(f"/v1/members/{id_}/consents/proof")
    assert (proof.status_code, proof.json()["notices"]) == (200, [])
    assert (await give(service, id_, "broadcast/sms")).status_code == 200
    shown = (await service.http.get(f"/v1/members/{id_}")).json()["consents"]
    assert {(c["purpose"], c["channel"]): c["state"] for c in shown} == {
        ("welcome", "whatsapp"): "given",
        ("welcome", "sms"): "withdrawn",
        ("group", "whatsapp"): "withdrawn",
        ("broadcast", "sms"): "given",
    }
    data = [e.data for e in await service.events(5) if isinstance(e.data, MemberConsentChanged)]
    assert [(d.purpose, d.state, d.channels, d.announced) for d in data] == [
        ("broadcast", "withdrawn", ("whatsapp",), True),
        ("group", "withdrawn", ("whatsapp",), True),
        ("welcome", "withdrawn", ("whatsapp",), True),
        ("broadcast", "given", ("whatsapp",), True),
    ]
    resolved = await service.http.post("/v1/members/resolve", json={"ids": [id_]})
    assert {(c["purpose"], c["channel"]) for c in resolved.json()["items"][0]["consents"]} == {
        ("welcome", "whatsapp"),
        ("broadcast", "sms"),
    }


async def test_a_proof_holds_the_texts_that_were_shown(service: Service) -> None:
    member = await service.register(consents=registered("sms"))
    await register_notice(service)
    await give(service, member["id"], "membership/sms")
    proof = (await service.http.get(f"/v1/members/{member['id']}/consents/proof")).json()
    told = await ledger(service, member["id"])
    assert {name: proof[name] for name in told} == told
    [notice] = proof["notices"]
    assert (notice["version"], notice["language"], notice["text"]) == ("2", "hi", NOTICE)
    assert notice["sha256"] == hashlib.sha256(NOTICE.encode()).hexdigest()
    assert notice["sha256"] == proof["items"][-1]["notice_sha256"]


async def test_a_registered_notice_never_changes(service: Service) -> None:
    answers = await asyncio.gather(*(register_notice(service, text=text) for text in ("a", "b") * 5))
    assert sorted({answer.status_code for answer in answers}) == [200, 201, 409]
    assert [answer.status_code for answer in answers].count(201) == 1
    [kept] = {answer.json()["text"] for answer in answers if answer.status_code != 409}
    shown = await service.http.get("/v1/notices/2/hi")
    assert (shown.status_code, shown.json()["text"]) == (200, kept)
    assert (await service.http.get("/v1/notices/3/hi")).status_code == 404


async def test_a_consent_names_a_registered_notice_and_its_evidence(service: Service) -> None:
    member = await service.register()
    await register_notice(service)
    for body in (
        {"notice": "3"},
        {"language": "en"},
        {"evidence": None},
        {"evidence": "+91 98123 45678"},
        {"evidence": "called asha@example.org"},
        {"evidence": " \u200b"},
        {"source": "Paper Form"},
    ):
        answer = await give(service, member["id"], **body)
        assert answer.status_code == 422, body
        assert "98123" not in answer.text
        assert "asha@" not in answer.text
    assert (await give(service, member["id"], "service/sms")).status_code == 422
    assert await service.db["consent_ledger"].count_documents({}) == 0


async def test_who_left_gives_no_consent_but_may_withdraw_one(service: Service) -> None:
    member = await service.register(consents=registered("sms"))
    await register_notice(service)
    await service.http.delete(f"/v1/members/{member['id']}")
    answer = await give(service, member["id"], "broadcast/sms")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (409, "member-has-left")
    assert (await withdraw(service, member["id"])).status_code == 204
    assert [item["state"] for item in (await ledger(service, member["id"]))["items"]] == [
        "given",
        "withdrawn",
    ]


async def test_only_the_version_that_was_seen_is_changed_if_one_is_named(service: Service) -> None:
    member = await service.register(consents=registered("sms"))
    path = f"/v1/members/{member['id']}/consents/welcome/sms"
    assert (await service.http.delete(path, headers={"if-match": '"2"'})).status_code == 412
    assert (await service.http.delete(path, headers={"if-match": '"1"'})).status_code == 204


async def test_withdrawals_and_consents_at_once_are_one_after_the_other(
    settings: MembersSettings, keys: Keys
) -> None:
    """Two processes, with a change of the profile among them."""
    async with serving(settings, keys) as one, serving(settings, keys) as other:
        await register_notice(one)
        member = await one.register(consents=registered("sms"))
        id_ = member["id"]
        for _ in range(8):
            answers = await asyncio.gather(
                withdraw(one, id_),
                withdraw(other, id_),
                give(one, id_),
                give(other, id_, "welcome/whatsapp"),
                withdraw(one, id_, "welcome/whatsapp"),
                *(give(each, id_, what) for each in (one, other) for what in ("group/sms", "reminder/sms")),
                *(withdraw(each, id_, "group/sms") for each in (one, other)),
                one.http.post(f"/v1/members/{id_}/move", json={"unit": f"{UNIT[:-3]}102"}),
                other.http.post(f"/v1/members/{id_}/move", json={"unit": UNIT}),
            )
            assert {answer.status_code for answer in answers[:-2]} <= {200, 204}
        told = await ledger(other, id_)
        state = {(c["purpose"], c["channel"]): c["state"] for c in told["state"]}
        assert state == {(i["purpose"], i["channel"]): i["state"] for i in told["items"]}
        stored = await one.stored(id_)
        events = await one.events(stored["version"])
        assert [e.sequence for e in events] == list(range(1, stored["version"] + 1))
        told_of = {e.sequence: e.data.state for e in events if isinstance(e.data, MemberConsentChanged)}
        assert told_of == {i["sequence"]: i["state"] for i in told["items"] if i["sequence"] > 1}
        for pair in state:
            states = [
                (i["state"], i["notice"]) for i in told["items"] if (i["purpose"], i["channel"]) == pair
            ]
            assert all(a != b for a, b in pairwise(states)), "each entry is a change"


async def test_consents_of_an_older_release_are_in_the_ledger(service: Service) -> None:
    """A process of release 0.1.0 writes the member's document and nothing else."""
    member = await service.register(consents=registered("sms", "email"))
    assert await service.db["consent_ledger"].count_documents({}) == 0
    before = await ledger(service, member["id"])
    assert [item["channel"] for item in before["items"]] == ["sms", "email"]
    await withdraw(service, member["id"])
    after = await ledger(service, member["id"])
    key = lambda item: (item["sequence"], item["channel"])  # noqa: E731
    assert sorted(after["items"][:2], key=key) == sorted(before["items"], key=key)
    rows: list[Document] = await service.db["consent_ledger"].find({}).to_list(None)
    assert len(rows) == len(after["items"]) == 3


@pytest.mark.parametrize(
    ("method", "scopes"),
    [
        ("PUT", "members:write members:read"),
        ("PUT", "consents:write members:write"),
        ("DELETE", "consents:write members:read"),
        ("GET", "members:write"),
    ],
)
async def test_giving_for_somebody_needs_a_right_of_its_own(
    service: Service, method: str, scopes: str
) -> None:
    member = await service.register(consents=registered("sms"))
    path = f"/v1/members/{member['id']}/consents" + ("" if method == "GET" else "/welcome/sms")
    body: dict[str, Any] = (
        {"json": {"notice": "2", "language": "hi", "evidence": "f"}} if method == "PUT" else {}
    )
    answer = await service.http.request(method, path, headers=service.app.auth(scopes), **body)
    assert answer.status_code == 403
