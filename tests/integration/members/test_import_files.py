"""Imports of files as people make them, and as nobody should: what is read, refused and kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.importing import (
    CSV,
    IMPORTER,
    a_phone,
    outcomes,
    planned,
    reaching,
    refused,
    send,
)


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
    ):
        handles = [{"platform": "x", "handle": "@asha"}, {"platform": "telegram", "handle": "-1"}]
        await service.register(
            name=name, platforms=handles, email="=a@example.org", birth_year=1990, gender="female"
        )
    await service.register(name="Ram")
    answer = await service.http.get(f"/v1/members/export?format={kind}", headers=service.app.auth(IMPORTER))
    kinds = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
    plan = await planned(service, answer.content, **{"content-type": kinds[kind]})
    assert outcomes(plan) == {"unchanged": 11}, plan["plan"]


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty-file"),
        (b"PK\x03\x04" + b"\x00" * 1000, "not-text"),
        (",".join(map(str, range(5000))), "too-many-columns"),
        ("name,phone,caste\nA,1,B\n", "forbidden-column"),
        ("name,email\nA,a@b.in\n", "no-phone-column"),
        ("name,phone,mobile\nA,1,2\n", "column-twice"),
        ("uke,phone\nx,1\n", None),
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
