"""The tree of units over HTTP, one at a time and as CSV."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.local.keys import Keys
from services.groups.app import build
from services.groups.tree.csv_rows import MAX_IMPORT_ROWS, MAX_LINE_CHARS
from services.groups.tree.files import MAX_LONG_FILES, SHORT_BYTES
from services.groups.tree.store import LOOKUP_CODES
from services.shared.contracts.groups import TOPIC
from tests.fixtures.apps import Running, started

MEBIBYTE = 1024 * 1024
HEADER = "code,level,name_en,name_hi,women_target\n"
TREE = (
    HEADER + "BR-SARAN,district,Saran,सारण,0.4\nBR,state,Bihar,बिहार,\nBR-SARAN-MANJHI,block,Manjhi,मांझी,\n"
)


async def load(groups: Running, text: str | bytes, **options):
    body = text.encode() if isinstance(text, str) else text
    headers = {"content-type": "text/csv", **options.pop("headers", {})}
    return await groups.http.post("/v1/units/imports", content=body, headers=headers, **options)


async def test_a_tree_is_loaded_whole_in_any_order_and_again_without_effect(groups: Running) -> None:
    dry = await load(groups, TREE, params={"dry_run": True})
    assert dry.json()["created"] == 3
    assert (await groups.http.get("/v1/units/BR")).status_code == 404

    assert (await load(groups, TREE)).json()["created"] == 3
    assert (await load(groups, TREE)).json() == {
        "dry_run": False,
        "created": 0,
        "updated": 0,
        "unchanged": 3,
        "changed_codes": [],
    }
    unit = (await groups.http.get("/v1/units/BR-SARAN")).json()
    assert unit["name"] == {"en": "Saran", "hi": "सारण"}
    assert unit["parent"] == "BR"
    children = (await groups.http.get("/v1/units/BR-SARAN/children")).json()
    assert [c["code"] for c in children["items"]] == ["BR-SARAN-MANJHI"]
    assert len(await groups.log(TOPIC)) == 3


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("text/csv", 200),
        ('TEXT/CSV; charset="UTF-8"; header=present', 200),
        ("text/csv; charset=iso-8859-1", 415),
        ("text/csv; header=absent", 415),
        ("text/csv; charset=utf-8; charset=utf-16", 415),
        ("text/csvx", 415),
        ("text/csv" + " " * 60_000 + "x", 415),
    ],
)
async def test_a_file_says_no_more_of_itself_than_holds(groups: Running, sent: str, status: int) -> None:
    assert (await load(groups, TREE, headers={"content-type": sent})).status_code == status


TREES_WITH_AN_ERROR = [
    (HEADER + "BR,state,Bihar,बिहार,\nBR-SARAN,block,Saran,सारण,\n", "/rows/3"),
    (HEADER + "BR,state,Bihar,बिहार,\nbr-saran,district,Saran,सारण,\n", "/rows/3/code"),
    (HEADER + "BR,state,Bihar,बिहार,\nBR,state,Bihar,बिहार,\n", "/rows/2/code"),
    (HEADER + "BR,state,Bihar,बिहार,1.5\n", "/rows/2/women_target"),
    (HEADER + "BR,state,Bihar,\u200b,\n", "/rows/2/name/hi"),
    (HEADER + "BR-X-Y,block,Y,य,\n", "/rows/2/code"),
    (HEADER + "BR,state,Bihar\n", "/rows/2"),
    (HEADER, "/rows"),
    ("", "/rows/1"),
    ("code;level\n", "/rows/1"),
    (HEADER + 'BR,state,"Bihar,बिहार,\n', "/rows/2"),
]


async def test_a_tree_with_an_error_is_refused_whole(groups: Running) -> None:
    for text, pointer in TREES_WITH_AN_ERROR:
        answer = await load(groups, text)
        assert answer.status_code == 422, text
        assert answer.headers["content-type"] == "application/problem+json"
        assert pointer in [e["pointer"] for e in answer.json()["errors"]], text
        assert await groups.runtime.database["units"].count_documents({}) == 0, text


async def test_a_tree_that_is_no_text_is_refused(groups: Running) -> None:
    assert (await load(groups, b"\xff\xfe\x00")).status_code == 400
    assert (await load(groups, TREE, headers={"content-type": "application/json"})).status_code == 415


async def test_units_outside_the_callers_subtree_are_not_loaded_or_shown(groups: Running) -> None:
    headers = groups.auth("groups:write groups:read", "BR-SARAN")
    refused = await load(groups, TREE, headers=headers)
    assert refused.status_code == 422
    await load(groups, TREE)
    assert (await groups.http.get("/v1/units/BR-SARAN-MANJHI", headers=headers)).status_code == 200
    assert (await groups.http.get("/v1/units/BR", headers=headers)).status_code == 404
    assert (await groups.http.get("/v1/groups?unit=BR", headers=headers)).status_code == 404


async def test_a_caller_without_a_unit_is_refused_before_the_file_is_read(groups: Running) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"a,,,,\n" * 10_000

    headers = groups.auth("groups:write", None)
    assert (await load(groups, TREE, headers=headers)).status_code == 404
    headers |= {"content-type": "text/csv"}
    for key in ({}, {"idempotency-key": "endless"}):
        refused = await groups.http.post("/v1/units/imports", content=endless(), headers=headers | key)
        assert (refused.status_code, sent) == (404, 0)


HOSTILE_FILES = {
    "empty lines": "\n" * 31 * MEBIBYTE,
    "rows without cells": ",,,,\n" * 6 * MEBIBYTE,
    "an empty line in quotes": '"\n"\n' * 7 * MEBIBYTE,
    "wrong rows": "a,,,,\n" * 150_000,
}


@pytest.mark.heavy
@pytest.mark.parametrize("what", HOSTILE_FILES)
async def test_a_hostile_file_does_not_hold_up_the_files_of_others(groups: Running, what: str) -> None:
    hostile = groups.auth("groups:write", "BR-SARAN", sub="hostile")
    attack = asyncio.create_task(load(groups, HEADER + HOSTILE_FILES[what], headers=hostile))
    waits: list[float] = []
    while not attack.done() and len(waits) < 5:
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert (await load(groups, HEADER + "BR,state,Bihar,बिहार,\n")).status_code == 200
        waits.append(time.monotonic() - began)
    assert max(waits) < 1
    assert (await attack).status_code == 422


class Held:
    """A file whose last row does not come before `release`; `sent` counts the bytes taken of it."""

    def __init__(self, groups: Running, subject: str, length: int, *, says_length: bool = True) -> None:
        self._end = asyncio.Event()
        self._length = length
        self.begun = asyncio.Event()
        self.sent = 0
        headers = groups.auth("groups:write", "BR", sub=subject) | {"content-type": "text/csv"}
        if says_length:
            headers["content-length"] = str(length)
        call = groups.http.post("/v1/units/imports", content=self._pieces(), headers=headers)
        self.answer = asyncio.create_task(call)

    async def _pieces(self) -> AsyncIterator[bytes]:
        row = "BR,state,Bihar,बिहार,\n".encode()
        blanks = self._length - len(HEADER) - len(row)
        lines = (b" " * 1023 + b"\n") * (blanks // 1024) + b" " * (blanks % 1024)
        for piece in (HEADER.encode(), lines):
            self.sent += len(piece)
            yield piece
        self.begun.set()
        await self._end.wait()
        yield b"\n" + row[:-1]

    async def release(self) -> int:
        self._end.set()
        return (await self.answer).status_code


async def test_a_caller_has_one_file_on_its_way(groups: Running) -> None:
    first = Held(groups, "one", 1000)
    await first.begun.wait()
    second = Held(groups, "one", 1000)
    assert await second.release() == 429
    refused = await second.answer
    assert (refused.json()["type"].rpartition(":")[2], second.sent) == ("import-in-progress", 0)
    assert int(refused.headers["retry-after"]) > 0
    assert await Held(groups, "other", 1000).release() == 422  # one line of blanks is a wrong row
    assert await first.release() == 422
    assert (await Held(groups, "one", 1000).release()) == 422


@pytest.mark.parametrize("says_length", [True, False])
async def test_few_long_files_are_in_memory_at_once(groups: Running, says_length: bool) -> None:
    length = 2 * SHORT_BYTES
    held = [Held(groups, f"caller-{n}", length, says_length=says_length) for n in range(MAX_LONG_FILES)]
    for each in held:
        await each.begun.wait()
    refused = Held(groups, "too many", length, says_length=says_length)
    assert await refused.release() == 429
    assert (await refused.answer).json()["type"].rpartition(":")[2] == "too-many-imports"
    assert not (says_length and refused.sent)
    assert (await load(groups, TREE)).status_code == 200
    assert [await each.release() for each in held] == [422] * MAX_LONG_FILES
    assert await Held(groups, "too many", length).release() == 422


async def test_an_import_does_not_tell_whether_a_foreign_parent_exists(groups: Running) -> None:
    headers = groups.auth("groups:write", "UP")
    foreign = HEADER + "BR-SARAN-MANJHI,block,Manjhi,मांझी,\n"
    before = (await load(groups, foreign, headers=headers)).json()
    await load(groups, TREE)
    after = (await load(groups, foreign, headers=headers)).json()
    assert before["errors"] == after["errors"]
    assert before["error_count"] == after["error_count"] == 1


async def test_a_unit_needs_its_parent_and_the_level_of_its_code(groups: Running) -> None:
    body = {"level": "district", "name": {"en": "Saran", "hi": "सारण"}}
    assert (await groups.http.put("/v1/units/BR-SARAN", json=body)).status_code == 409
    wrong = await groups.http.put("/v1/units/BR", json=body)
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/level"


async def test_a_unit_is_written_only_over_the_version_that_its_writer_read(groups: Running) -> None:
    def body(name: str) -> dict[str, Any]:
        return {"level": "state", "name": {"en": name, "hi": "बिहार"}}

    async def put(name: str, **headers: str) -> int:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return (await groups.http.put("/v1/units/BR", json=body(name), headers=sent)).status_code

    assert await put("Bihar", if_match="*") == 412
    assert await put("Bihar", if_match='"1"') == 412
    assert (await groups.http.get("/v1/units/BR")).status_code == 404
    assert await put("Bihar", if_none_match="*") == 201
    assert await put("Other", if_none_match="*") == 412
    assert await put("Bihar again", if_match='"1"') == 200
    assert await put("Other", if_match='"1"') == 412
    assert (await groups.http.get("/v1/units/BR")).json()["name"]["en"] == "Bihar again"
    both = await asyncio.gather(*[put(f"Racer {n}", if_match='"2"') for n in range(4)])
    assert sorted(both) == [200, 412, 412, 412]
    assert sorted(await asyncio.gather(*[make(groups, "BR-A") for _ in range(4)])) == [201, 412, 412, 412]


async def make(groups: Running, code: str) -> int:
    body = {"level": "district", "name": {"en": "A", "hi": "अ"}}
    return (await groups.http.put(f"/v1/units/{code}", json=body, headers={"if-none-match": "*"})).status_code


@pytest.mark.parametrize("query", ["dry-run=true", "dry_run=true&dry_run=false", "dryrun=true"])
async def test_a_mistyped_dry_run_imports_nothing(groups: Running, query: str) -> None:
    assert (await load(groups, TREE, params=query)).status_code == 422
    coded = await load(groups, TREE, headers={"content-encoding": "gzip"})
    assert coded.status_code == 415
    assert (await groups.http.get("/v1/units/BR")).status_code == 404


def long_tree(blocks: int) -> str:
    rows = "".join(f"BR-D-{n},block,Block {n},प्रखंड,\n" for n in range(blocks))
    return f"{HEADER}BR,state,Bihar,बिहार,\nBR-D,district,District,ज़िला,0.5\n{rows}"


async def ended(groups: Running, location: str):
    job: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal job
        job = (await groups.http.get(location)).json()
        return job["state"] in ("succeeded", "failed", "cancelled")

    await groups.until(has_ended, 60)
    return job


async def inputs_gone(groups: Running) -> None:
    """A worker deletes a job's input just after the job has ended."""
    database = groups.runtime.database

    async def gone() -> bool:
        counts = [await database[f"job_inputs.{part}"].count_documents({}) for part in ("files", "chunks")]
        return counts == [0, 0]

    await groups.until(gone, 10)


async def test_a_long_file_is_checked_at_once_and_written_by_a_job(groups: Running) -> None:
    accepted = await load(groups, long_tree(5000))
    assert accepted.status_code == 202, accepted.text
    job = await ended(groups, accepted.headers["location"])
    assert (job["state"], job["progress"]) == ("succeeded", {"done": 5002, "total": 5002})
    assert job["counts"] == {"created": 5002, "updated": 0, "unchanged": 0}
    assert job["result"]["changed_codes"][:2] == ["BR", "BR-D"]
    assert len(job["result"]["changed_codes"]) == 100
    assert await groups.runtime.database["units"].count_documents({}) == 5002
    await inputs_gone(groups)
    published = await groups.published(TOPIC, 5002, seconds=20)
    assert len({event.subject for event in published}) == len(published) == 5002

    again = await ended(groups, (await load(groups, long_tree(5000))).headers["location"])
    assert again["counts"] == {"created": 0, "updated": 0, "unchanged": 5002}


async def test_a_long_dry_run_counts_and_writes_nothing(groups: Running) -> None:
    accepted = await load(groups, long_tree(5000), params={"dry_run": True})
    job = await ended(groups, accepted.headers["location"])
    assert job["result"]["dry_run"] is True
    assert job["result"]["created"] == 5002
    assert await groups.runtime.database["units"].count_documents({}) == 0


async def test_a_long_file_with_a_mistake_is_refused_at_once(groups: Running) -> None:
    answer = await load(groups, long_tree(5000) + "BR-NONE-X,block,X,एक्स,\n")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/rows/5004/code"
    assert await groups.runtime.database["jobs"].count_documents({}) == 0


async def test_a_repeated_request_answers_the_job_that_it_added(groups: Running, keys: Keys) -> None:
    headers = {"idempotency-key": "tree-2026-03"}
    async with started(
        build, groups.runtime.settings, keys=keys, admin_scopes=["groups:*", "invites:read"]
    ) as process:
        both = (groups, process)
        twice = await asyncio.gather(*(load(each, long_tree(5000), headers=headers) for each in both))
    again = await load(groups, long_tree(5000), headers=headers)
    assert {answer.status_code for answer in (*twice, again)} == {202}
    assert len({answer.headers["location"] for answer in (*twice, again)}) == 1
    other = await load(groups, long_tree(5001), headers=headers)
    assert (other.status_code, other.json()["type"].rpartition(":")[2]) == (422, "idempotency-key-reused")
    job = await ended(groups, again.headers["location"])
    assert job["counts"]["created"] == 5002
    assert await groups.runtime.database["jobs"].count_documents({}) == 1
    await inputs_gone(groups)


@pytest.mark.heavy
async def test_a_file_of_too_many_rows_or_errors_is_refused_in_a_few_words(groups: Running) -> None:
    bad = await load(groups, HEADER + "x\n" * 100_000)
    assert bad.status_code == 422
    assert (len(bad.json()["errors"]), bad.json()["error_count"]) == (100, 100_000)
    rows = "BR,state,Bihar,बिहार,\n" * (MAX_IMPORT_ROWS + 1)
    long = await load(groups, HEADER + rows)
    wide = await load(groups, HEADER + "BR,state,Bihar,बिहार,\n" + "," * MAX_LINE_CHARS)
    assert (wide.status_code, wide.json()["errors"][0]["pointer"]) == (422, "/rows/3")
    assert "characters" in wide.json()["errors"][0]["detail"]
    assert (long.status_code, long.json()["errors"][0]["pointer"]) == (422, "/rows")
    orphans = "".join(f"BR-D{n}-B,block,B,ख,\n" for n in range(LOOKUP_CODES + 1))
    assert (await load(groups, HEADER + orphans)).json()["error_count"] == LOOKUP_CODES + 1


async def test_a_job_touches_no_unit_outside_those_of_its_caller(groups: Running) -> None:
    location = (await load(groups, long_tree(5000))).headers["location"]
    elsewhere = {"requested_by.unit": "UP", "state": "paused"}
    jobs = groups.runtime.database["jobs"]
    await groups.http.post(f"{location}/pause")
    before = await groups.runtime.database["units"].count_documents({})
    await jobs.update_one({}, {"$set": elsewhere})
    await groups.http.post(f"{location}/resume")
    job = await ended(groups, location)
    assert (job["state"], job["reason"]) == ("failed", "not-found")
    assert await groups.runtime.database["units"].count_documents({}) == before


@pytest.mark.heavy
async def test_the_longest_file_does_not_hold_up_the_event_loop(groups: Running) -> None:
    """While 100,000 rows are checked and written, other requests are answered as ever."""
    slowest = 0.0
    loading = asyncio.create_task(load(groups, long_tree(100_000)))
    clock = asyncio.get_running_loop().time
    while not loading.done():
        began = clock()
        assert (await groups.http.get("/livez")).status_code == 200
        slowest = max(slowest, clock() - began)
        await asyncio.sleep(0.01)
    accepted = await loading
    assert accepted.status_code == 202
    assert slowest < 0.25, slowest
    cancelled = await groups.http.post(f"{accepted.headers['location']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


async def test_another_part_of_the_organisation_does_not_see_the_job(groups: Running) -> None:
    location = (await load(groups, long_tree(5000))).headers["location"]
    elsewhere = groups.auth("groups:*", "UP")
    assert (await groups.http.get(location, headers=elsewhere)).status_code == 404
    await ended(groups, location)
