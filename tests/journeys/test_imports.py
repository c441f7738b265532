"""Thousands of real-looking rows come in by the command, while the service is killed: each person once, and
the books balance; also after a merge, a withdrawal and an erasure, and a restore of the dump from before."""

from __future__ import annotations

import asyncio
import csv
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.tree import codes, read_tree
from infra.local.stack import LocalStack
from tests.fixtures.patience import Patience
from tests.journeys.test_erasure import until
from tests.journeys.test_kill import settled, the_log
from tests.journeys.test_restore import lose, restore, run, start

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
ROWS = 20_000
BAD = 200
CONSENT = "/consents/broadcast/sms"


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    async with LocalStack(tmp_path) as stack:
        yield stack


def names(count: int) -> list[str]:
    """People with names of Bihar, in both scripts."""
    rng = random.Random(11)

    def column(name: str) -> list[list[str]]:
        with (DATA / name).open(encoding="utf-8") as rows:
            return [[row["latin"], row["devanagari"]] for row in csv.DictReader(rows)]

    given, last = column("names_given.csv"), column("names_last_token.csv")
    scripts = (rng.randrange(2) for _ in range(count))
    return [f"{rng.choice(given)[script]} {rng.choice(last)[script]}" for script in scripts]


def write_file(path: Path, units: list[str]) -> None:
    rng = random.Random(3)
    typed = ("{}", "0{}", "+91 {}", "'{}", "{}.0", "tel:{}")
    with path.open("w", encoding="utf-16", newline="") as out:
        rows = csv.writer(out, delimiter=";")
        rows.writerow(["क्रम", "नाम", "मोबाइल नं.", "लिंग", "Unit Code"])
        for n, name in enumerate(names(ROWS)):
            phone = rng.choice(typed).format(7_000_000_000 + n)
            rows.writerow([n + 1, name, phone, rng.choice(["महिला", "M", "f", ""]), rng.choice(units)])
        for n in range(BAD):
            rows.writerow(["", "आशा देवी", "9.87654E+09", "", units[n % len(units)]])


async def command(stack_directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.members", "imports", *arguments, "--dir", str(stack_directory)),
        cwd=ROOT,
        env={},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def in_state(api: Api, state: str, done: int) -> str:
    """The id of the newest import once it is in that state and has done so much."""
    items: list[dict[str, Any]] = []
    patience = Patience()
    while True:
        items = (await api.get("members", "/v1/imports"))["items"]
        patience.check([(item["state"], item["progress"]) for item in items])
        if items and items[0]["state"] == state and items[0]["progress"]["done"] >= done:
            return str(items[0]["id"])
        await asyncio.sleep(0.02)


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_an_import_that_is_killed_twice_makes_each_member_once_and_the_day_goes_on(
    own_stack: LocalStack, tmp_path: Path
) -> None:
    stack, file = own_stack, tmp_path / "members.csv"
    async with Api(stack.urls, stack.token, connections=16) as api:
        tree = read_tree()
        await api.send(
            "POST", "groups", "/v1/units/imports", content=tree.encode(), headers={"content-type": "text/csv"}
        )
        write_file(file, list(codes(tree)))

        planning = await command(tmp_path, str(file), "--plan")
        await in_state(api, "planning", 100_000)
        stack.processes["members"].kill()
        await planning.communicate()  # it may have lost its service
        await stack.wait_ready()
        import_id = await in_state(api, "planned", 0)
        plan = (await api.get("members", f"/v1/imports/{import_id}"))["plan"]
        assert (plan["new"], plan["reasons"]) == (ROWS, {"spreadsheet_number": BAD})

        await api.send("POST", "members", f"/v1/imports/{import_id}/apply")
        await in_state(api, "applying", 2000)
        stack.processes["members"].kill()
        await stack.wait_ready()
        await in_state(api, "applied", 0)
        found = await api.get("members", f"/v1/imports/{import_id}")
        assert found["applied"] == {"created": ROWS, "updated": 0, "set_aside": 0}
        assert stack.processes["members"].restarts == 2

        again = await command(tmp_path, str(file), "--yes")
        out, err = await asyncio.wait_for(again.communicate(), 120)
        assert again.returncode == 3, err.decode()
        assert f"{ROWS:,}" in out.decode()
        assert "created" not in out.decode()  # nothing was new
        errors = (tmp_path / "members.errors.csv").read_text(encoding="utf-8-sig").splitlines()
        assert len(errors) == BAD + 1

        lines = await settled(api, ROWS)
        assert all(line.balances for line in lines), lines
        suppressed = [n async for n in api.pages("notifications", "/v1/notifications")]
        assert {(n["state"], n["reason"]) for n in suppressed} == {("suppressed", "not_announced")}
        joined = [event for event in await the_log(stack) if event.type == "member.joined"]
        assert len({event.id for event in joined}) == len({event.subject for event in joined}) == ROWS

        one, two, withdrawing, leaving = [await join(api, n) for n in range(4)]
        await run(stack, "members", "dump", str(tmp_path / "members"))
        merge = await api.send("POST", "members", f"/v1/members/{one}/merge", json={"other": two})
        assert merge.status_code == 200, merge.text
        withdrawal = await api.send("DELETE", "members", f"/v1/members/{withdrawing}{CONSENT}")
        assert withdrawal.status_code == 204, withdrawal.text
        erasure = await api.send("POST", "members", f"/v1/members/{leaving}/erasure")
        assert erasure.status_code == 202, erasure.text
        await until("erased", api, erasure.json()["id"])
        await check_the_day(api, one, two, withdrawing, leaving)

        await stack.processes["members"].stop()
        lose(stack, ["members"])
        await restore(stack, tmp_path, "members")
        await start(stack, "members")
        await check_the_day(api, one, two, withdrawing, leaving)


async def join(api: Api, number: int) -> str:
    """A member who agreed to broadcasts; the first two seem to be one person."""
    person = {
        "name": ("Asha Devi", "आशा देवी", "Ravi Kumar", "Mina Khatun")[number],
        "phone": f"+91710000000{number}",
        "unit": "BR-SARAN",
        "consents": [{"purpose": "broadcast", "channel": "sms", "notice": "1", "language": "hi"}],
    }
    answer = await api.send("POST", "members", "/v1/members", json=person)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def check_the_day(api: Api, one: str, two: str, withdrawing: str, leaving: str) -> None:
    """One member stands for another, one has withdrawn, one is not known any more; the books balance."""
    lines = await settled(api, ROWS + 2)
    assert all(line.balances for line in lines), lines
    assert set(lines[0].figures.values()) == {ROWS + 2}
    merged = await api.get("members", f"/v1/members/{two}")
    assert (merged["status"], merged["merged_into"]) == ("merged", one)
    assert (await api.get("members", f"/v1/members/{one}"))["consents"][0]["state"] == "given"
    [consent] = (await api.get("members", f"/v1/members/{withdrawing}"))["consents"]
    assert consent["state"] == "withdrawn"
    assert (await api.send("GET", "members", f"/v1/members/{leaving}")).status_code == 404
