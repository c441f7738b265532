"""Imports of files as people make them, and as nobody should: what is read, refused and kept."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator

import pytest

from services.shared.database import Document
from tests.fixtures.memory import begin_again, high_water
from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.importing import (
    CSV,
    IMPORTER,
    a_phone,
    applied,
    outcomes,
    planned,
    reaching,
    refused,
    send,
)

MOST_MEGABYTES = 10
"""By which the process may grow for a file of 20 MB."""


async def test_refused_rows_can_be_mended_and_sent_again(service: Service) -> None:
    mended, phone = a_phone(), a_phone()
    content = f'"Name";"Mob. No.";"Note"\n"=1+1";{phone};"@x"\n"Asha";"9,8E+09";"-"\nRam;"+91 {mended}";ok\n'
    plan = await planned(service, content)
    assert plan["plan"]["reasons"] == {"formula": 1, "spreadsheet_number": 1}
    answer = await service.http.get(f"/v1/imports/{plan['id']}/errors")
    assert "'=1+1" in answer.text
    text = answer.text.replace("'=1+1", "Sita").replace('"9,8E+09"', a_phone())
    again = await planned(service, text)
    assert outcomes(again) == {"new": 2}
    assert again["columns"] == ["name", "phone", None, None, None]


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_what_an_export_writes_is_imported_unchanged(service: Service, kind: str) -> None:
    for name in (
        "=HYPERLINK(1)",
        "-Asha",
        "+Ram",
        "@devi",
        "'=Om",
        "''|x",
        "=a\\|b",
        "राम, कुमार",
        'Sita "Didi"',
        "O'Brien",
        "|Piped Name",
        "'\\|Piped",
        "'=a\\|b",
        "Hkanna",
    ):
        handles = [{"platform": "x", "handle": "@asha"}, {"platform": "telegram", "handle": "|b|c"}]
        await service.register(
            name=name, platforms=handles, email="=a@example.org", birth_year=1990, gender="female"
        )
    inviter = await service.register(name="Inviter")
    await service.register(name="Ram", inviter_id=inviter["id"])
    await service.db["members"].delete_one({"_id": inviter["id"]})  # as an erasure does
    answer = await service.http.get(f"/v1/members/export?format={kind}", headers=service.app.auth(IMPORTER))
    kinds = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
    plan = await planned(service, answer.content, **{"content-type": kinds[kind]})
    assert outcomes(plan) == {"unchanged": 15}, plan["plan"]


async def test_every_object_of_json_is_counted(service: Service) -> None:
    lines = [
        {"name": {"first": "A"}, "phone": [a_phone()]},
        {"name": "A", "phone": {"number": a_phone()}},
        {"name": True, "phone": a_phone()},
        {"name": ["A"], "phone": a_phone()},
        {"name": "A", "phone": a_phone(), "birth_year": False},
        {"name": "A", "phone": a_phone(), "platforms": {"x": "a"}},
        {},
        {"name": None, "phone": None},
        {"name": "A", "phone": a_phone(), "consent": False, "platforms": [{"platform": "x", "handle": "a"}]},
        {"name": "A", "phone": int(a_phone()), "tags": ["of a column that is ignored"]},
    ]
    content = "\n\n".join(map(json.dumps, lines))
    plan = await planned(service, content, **{"content-type": "application/x-ndjson"})
    assert outcomes(plan) == {"new": 2, "refused": 8}
    reasons = {"name": 3, "phone": 1, "birth_year": 1, "platforms": 1, "no_phone": 2}
    assert plan["plan"]["reasons"] == reasons
    assert len(await refused(service, plan["id"])) == 8


async def test_nothing_of_a_file_lies_in_the_clear(service: Service) -> None:
    phone = a_phone()
    content = f"Zubeida Khatun,{phone}\nname,phone\n" + f"Zubeida Bano,{phone}\nZubeida Bano,bad\n"
    mapping = json.dumps({"Zubeida Khatun": "name", phone: "phone"})
    plan = await planned(service, content, query=f"&mapping={mapping}")
    assert outcomes(plan) == {"new": 1, "refused": 2}
    for name in await service.db.list_collection_names():
        async for row in service.db[name].find():
            assert "Zubeida" not in str(row), name
            assert phone not in str(row), name
    raw = await service.db["job_inputs.chunks"].find().to_list(None)
    assert not any(b"Zubeida" in row["data"] for row in raw)


async def test_an_import_that_is_cut_off_leaves_nothing(service: Service) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"name,phone\n" + b"Asha,9876543210\n" * 30_000
        raise ConnectionError

    answer = await service.http.post(f"/v1/imports?unit={UNIT}", content=cut(), headers=CSV)
    assert answer.status_code == 500
    names = ("imports", "jobs", "job_inputs.files", "job_inputs.chunks")
    assert [await service.db[name].count_documents({}) for name in names] == [0, 0, 0, 0]


def zipped(text: str) -> bytes:
    """A spreadsheet as it is when it is renamed to .csv."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("people.csv", text)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty-file"),
        (b"\xef\xbb\xbf", "empty-file"),
        (b"\r\n \t\n" * 100, "empty-file"),
        (b"\x00" * 1000, "empty-file"),
        (zipped("name,phone\nAsha,9812345678\n"), "not-text"),
        (b"\x1f\x8b\x08" + b"\x00" * 1000, "not-text"),
        (b"\xd0\xcf\x11\xe0" + b"\x00" * 1000, "not-text"),
        (",".join(map(str, range(5000))), "too-many-columns"),
        ("name;phone" + ";" * 5000 + "\nA;1\n", "too-many-columns"),
        ('"name,phone\nA,1\n', "header"),
        ("x" * 10_000_000, "header"),
        ("name,phone,caste\nA,1,B\n", "forbidden-column"),
        ("name,phone,मतदाता क्रमांक\nA,1,B\n", "forbidden-column"),
        ("name,email\nA,a@b.in\n", "no-phone-column"),
        ("Members of Saran\n\nname;phone\nA;1\n", "title-above-header"),
        ("name,phone,mobile\nA,1,2\n", "column-twice"),
        ("uke,phone\nx,1\n", None),
        (b"n\xe9m\xe9ro,phone\n" + b"x,1\n" * 20, None),
        ("name,phone\njke dqekj,1\nlquhrk nsoh,2\n", "legacy-font"),
    ],
)
async def test_a_file_that_cannot_be_imported_is_refused_at_once(empty: Service, content, reason) -> None:
    answer = await send(empty, content)
    if reason is None:
        assert answer.status_code == 202
        return
    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:sangathan:problem:import-{reason}"
    assert (await send(empty, content, **{"content-type": "text/plain"})).status_code == 415


@pytest.mark.heavy
async def test_the_service_answers_while_it_reads_the_worst_of_files(service: Service) -> None:
    worst = b'name,phone\n"' + b"x" * 10_000_000 + b"\n" + b'"\n' * 20_000 + b"bad,bad\n" * 20_000
    answer = await send(service, worst)
    id_, slowest = answer.json()["id"], 0.0
    loop = asyncio.get_running_loop()
    state = "planning"
    while state == "planning":
        began = loop.time()
        assert (await service.http.get("/livez")).status_code == 200
        slowest = max(slowest, loop.time() - began)
        state = (await service.http.get(f"/v1/imports/{id_}")).json()["state"]
        await asyncio.sleep(0.005)
    assert slowest < 0.25
    plan = await reaching(service, id_, "planned")
    assert outcomes(plan)["refused"] > 20_000
    assert sum(plan["plan"]["reasons"].values()) == plan["plan"]["refused"]
    assert len(await refused(service, id_)) == plan["plan"]["refused"]


BAD_LINES = {
    b"Asha\x00Devi,9812345678": "control_characters",
    b"Asha,98123\x0045678": "control_characters",
    b"\x1b[2JAsha,9812345678": "control_characters",
    b'"Asha,9812345678': "not_csv",
    b'Asha,"9812345678': "not_csv",
    b'"Asha"Devi,9812345678': "not_csv",
    "Jos\u00e9,9812345678".encode("cp1252"): "encoding",
    "Asha,9812345678".encode("utf-16"): "encoding",
    b"\xc0\xafsha,9812345678": "encoding",
    b"Asha,9812345678" + b",x" * 5000: "too_many_cells",
    b"A" * 100_000 + b",9812345678": "line_too_long",
    b"name,phone": "header_again",
    b'"name","phone"': "header_again",
    b"Phone,Name": "phone",
    b"=cmd|'/c calc'!A1,9812345678": "formula",
    b"@SUM(1),9812345678": "formula",
    b"Asha,9.81E+09": "spreadsheet_number",
}


async def test_a_bad_line_costs_itself_alone(service: Service) -> None:
    lines: list[bytes] = []
    for bad in BAD_LINES:
        lines += [bad, *(f"Sita {n},{a_phone()}".encode() for n in range(12))]
    plan = await planned(service, b"name,phone\n" + b"\n".join(lines) + b"\n")
    assert outcomes(plan) == {"new": 12 * len(BAD_LINES), "refused": len(BAD_LINES)}
    said = {int(row["line"]): row["error"] for row in await refused(service, plan["id"])}
    assert said == {2 + 13 * n: reason for n, reason in enumerate(BAD_LINES.values())}
    assert (await applied(service, plan["id"]))["applied"]["created"] == 12 * len(BAD_LINES)


async def test_a_header_alone_is_a_plan_of_nothing(service: Service) -> None:
    for content in ("name,phone", "name,phone\n", "name,phone\r\n\r\n,,,\r\n"):
        plan = await planned(service, content)
        assert outcomes(plan) == {}
        assert await refused(service, plan["id"]) == []


@pytest.mark.heavy
async def test_memory_does_not_grow_with_the_rows_that_are_refused(service: Service) -> None:
    async def lines(thousands: int) -> AsyncIterator[bytes]:
        yield b"name,phone,note\n"
        for _ in range(thousands):
            yield b"Asha,bad,%b\n" % (b"x" * 400) * 1000

    async def plan_of(thousands: int) -> Document:
        answer = await service.http.post(f"/v1/imports?unit={UNIT}", content=lines(thousands), headers=CSV)
        return await reaching(service, answer.json()["id"], "planned")

    await plan_of(5)  # by then everything is loaded that any import needs
    gc.collect()
    before = begin_again(os.getpid())
    plan = await plan_of(50)
    assert high_water(os.getpid()) - before < MOST_MEGABYTES
    assert outcomes(plan) == {"refused": 50_000}
    answer = await service.http.get(f"/v1/imports/{plan['id']}/errors")
    assert answer.text.count("\n") == 50_001
