"""Exports: all that matches, safe in a spreadsheet, recorded, and cut off at any time."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message

from services.members.core.store import document_of
from services.members.directory.export import COLUMNS
from services.members.directory.service import EXPORTED
from services.shared.database import Document
from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.test_search import a_member

PATH = "/v1/members/export"


async def exported(service: Service, headers: dict[str, str] | None = None, **params: str) -> bytes:
    answer = await service.http.get(PATH, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


async def many(service: Service, count: int) -> None:
    """Members of whom one has a contact that opens; the others' was sealed for that one."""
    member = await service.register()
    document = await service.stored(member["id"])
    documents = []
    for n in range(count - 1):
        new = document_of(a_member())
        documents.append({**new, "contact": document["contact"], "phone_index": f"{n}"})
    await service.db["members"].insert_many(documents)


async def test_a_csv_of_what_matches_with_contacts(service: Service) -> None:
    asha = await service.register(
        name="आशा देवी",
        email="asha@example.org",
        birth_year=1990,
        preferred_channel="sms",
        platforms=[{"platform": "x", "handle": "@asha; d"}, {"platform": "whatsapp", "handle": "9812345678"}],
    )
    ravi = await service.register(name='Ravi, "the" Kumar', unit="BR-GAYA", inviter_id=asha["id"])
    await service.http.delete(f"/v1/members/{ravi['id']}")
    answer = await service.http.get(PATH)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="members.csv"'
    assert answer.content.startswith(b"\xef\xbb\xbfid,name,phone,email,unit,")
    first, second = rows_of(answer.content)
    assert tuple(first) == COLUMNS
    assert {name: cell for name, cell in first.items() if cell} == {
        "id": asha["id"],
        "name": "आशा देवी",
        "phone": f"'{asha['phone']}",
        "email": "asha@example.org",
        "unit": UNIT,
        "gender": "undisclosed",
        "language": "hi",
        "birth_year": "1990",
        "whatsapp": "9812345678",
        "x": "'@asha; d",
        "preferred_channel": "sms",
        "joined_at": asha["joined_at"],
        "status": "active",
    }
    assert (second["name"], second["inviter_id"], second["status"]) == (ravi["name"], asha["id"], "left")
    assert [row["id"] for row in rows_of(await exported(service, status="left"))] == [ravi["id"]]
    assert [row["id"] for row in rows_of(await exported(service, unit="BR-SARAN"))] == [asha["id"]]
    assert rows_of(await exported(service, q="nobody")) == []


async def test_no_cell_is_a_formula(service: Service) -> None:
    typed = ["=cmd|' /C calc'!A0", "+Asha", "-Asha", "@SUM(A1)", "|Asha", "%Asha", '=HYPERLINK("http://x")']
    for name in typed:
        await service.register(name=name, platforms=[{"platform": "x", "handle": name}])
    found = rows_of(await exported(service))
    assert [row["name"].replace("\\|", "|") for row in found] == [f"'{name}" for name in typed]
    assert not any(cell[0] in "=+-@|%\t\r" for row in found for cell in row.values() if cell)


async def test_ndjson_has_the_fields_as_they_are(service: Service) -> None:
    asha = await service.register(name="=आशा", birth_year=1990)
    answer = await service.http.get(PATH, params={"format": "ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    [row] = [json.loads(line) for line in answer.content.splitlines()]
    kept = ("id", "name", "phone", "unit", "gender", "language", "birth_year", "joined_at", "status")
    assert tuple(row) == COLUMNS
    assert {name: value for name, value in row.items() if value is not None} == {
        name: asha[name] for name in kept
    }


async def test_each_batch_is_recorded_and_a_contact_that_does_not_open_is_empty(service: Service) -> None:
    await many(service, EXPORTED + 2)
    headers = service.app.auth("members:read contacts:read", "BR", sub="exporter")
    found = rows_of(await exported(service, headers))
    assert len({row["id"] for row in found}) == EXPORTED + 2
    assert sum(bool(row["phone"]) for row in found) == 1
    reads = [row async for row in service.db["contact_reads"].find({"subject": "exporter"}).sort("_id", 1)]
    assert [len(read["ids"]) for read in reads] == [EXPORTED, 2]
    assert {read["via"] for read in reads} == {"export"}


async def test_a_head_reads_nothing(service: Service) -> None:
    await service.register()
    answer = await service.http.head(PATH)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert await service.db["contact_reads"].count_documents({}) == 0


async def test_who_may_export(service: Service) -> None:
    here, there = await service.register(), await service.register(unit="BR-GAYA")
    for scopes, unit, params, status in (
        ("members:read", "*", {}, 403),
        ("contacts:read", "*", {}, 403),
        ("members:read contacts:read", None, {}, 404),
        ("members:read contacts:read", "BR-SARAN", {"unit": "BR-GAYA"}, 404),
        ("members:read contacts:read", "BR-SARAN", {"format": "xlsx"}, 422),
        ("members:read contacts:read", "BR-SARAN", {"limit": "5"}, 422),
    ):
        headers = service.app.auth(scopes, unit)
        answer = await service.http.get(PATH, params=params, headers=headers)
        assert answer.status_code == status, (scopes, unit, params)
    headers = service.app.auth("members:read contacts:read", "BR-SARAN")
    assert [row["id"] for row in rows_of(await exported(service, headers))] == [here["id"]]
    assert there["phone"].encode() not in await exported(service, headers)


async def test_a_caller_who_goes_away_ends_the_export(service: Service) -> None:
    await many(service, 3 * EXPORTED)
    gone = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        if not sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(message.get("body", b"")) > 1000:
            gone.set()
            raise OSError("the caller has gone")

    token = service.app.auth("members:read contacts:read", sub="exporter")["authorization"]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    with suppress(OSError, ClientDisconnect):
        await service.app.app(scope, receive, send)
    read: Document = {"subject": "exporter"}
    assert await service.db["contact_reads"].count_documents(read) == 1
    await asyncio.sleep(0.3)
    assert await service.db["contact_reads"].count_documents(read) == 1
