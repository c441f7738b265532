"""An operator at work: a deploy that breaks a handler, an unknown record, and the commands that repair
both."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted, Arrivals
from infra.local.demo.people import people
from infra.local.stack import LocalStack
from services.shared.database import connect, database
from services.shared.messaging import KafkaBroker, Message
from tests.journeys.test_poison_and_stop import load_tree

ROOT = Path(__file__).parents[2]
JOINED = 7
UNKNOWN = 2
FLOOD = 60
RUN_LENGTH = 50
"""Failures in a row that open the fuse."""
"""In a row: the fuse opens at 50."""


class Command:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def __call__(self, *arguments: str, token: str | None = None) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        command = [sys.executable, "-m", "services.shared.ops", *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--service", "groups", "--dir", str(self._directory)),
            cwd=ROOT,
            env={"SANGATHAN_TOKEN": token} if token else {},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()

    async def documents(self, *arguments: str) -> list[dict[str, Any]]:
        code, out, err = await self(*arguments, "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    async def until_dead(self, count: int) -> None:
        for _ in range(60):
            if len(await self.documents("dead-letters", "list")) >= count:
                return
            await asyncio.sleep(0.2)
        raise AssertionError("waited in vain")


@asynccontextmanager
async def at_work(directory: Path) -> AsyncIterator[tuple[LocalStack, Api, Command]]:
    """Members and groups with a tree, and the operator's command."""
    async with (
        LocalStack(directory, services=("members", "groups")) as stack,
        Api(stack.urls, stack.token, connections=8) as api,
    ):
        await load_tree(api)
        yield stack, api, Command(stack.directory)


async def poison(stack: LocalStack, count: int) -> None:
    producer = await KafkaBroker(stack.kafka, client_id="test").producer()
    headers = (("ce_type", b"member.sang"),)
    await producer.publish([Message("sangathan.members", b"m", b"{}", headers)] * count)
    await producer.stop()


async def broken(stack: LocalStack) -> Callable[[], Awaitable[None]]:
    """Make MongoDB refuse all that groups writes of placements; returns what ends that."""
    groups = database(connect(stack.mongo, app_name="test"), "groups")
    rules = (await groups.command("listCollections", filter={"name": "placements"}))["cursor"]
    validator = rules["firstBatch"][0]["options"]["validator"]
    await groups.command("collMod", "placements", validator={"never": {"$exists": True}})

    async def mend() -> None:
        await groups.command("collMod", "placements", validator=validator)

    return mend


async def placed(api: Api, accepted: Sequence[Accepted]) -> int:
    answers = [await api.send("GET", "groups", f"/v1/members/{a.member_id}/groups") for a in accepted]
    return sum(
        bool(a.is_success and a.json()["items"] and a.json()["items"][0]["state"] == "assigned")
        for a in answers
    )


@pytest.mark.heavy
@pytest.mark.timeout(500)
async def test_letters_are_found_replayed_and_discarded_by_command(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (stack, api, command):
        mend = await broken(stack)
        accepted = await Arrivals(api).rush(people(JOINED, ["BR-GAYA"], 5), 4, lambda: None)
        await poison(stack, UNKNOWN)
        await command.until_dead(JOINED + UNKNOWN)

        kinds = await command.documents("dead-letters", "summary")
        assert [(k["type"], k["reason"], k["count"]) for k in kinds] == [
            ("member.joined", "handler_error", JOINED),
            ("member.sang", "unknown_type", UNKNOWN),
        ]
        letters = await command.documents("dead-letters", "list", "--type", "member.joined")
        assert await command.documents("dead-letters", "list", "--older-than", "1h") == []
        shown = await command.documents("dead-letters", "show", letters[0]["id"])
        assert shown == [letters[0]]
        assert "value" not in shown[0]

        code, out, err = await command("dead-letters", "replay", letters[0]["id"])
        assert (code, out) == (1, "")
        assert err.startswith("error: groups refuses: 409 handler_error")
        code, out, _ = await command("dead-letters", "replay", "--all")
        assert code == 1
        assert f"0 replayed, {JOINED} failed, {UNKNOWN} withheld, 0 held" in out

        await mend()
        assert await placed(api, accepted) == 0
        (would,) = await command.documents("dead-letters", "replay", "--type", "member.joined", "--dry-run")
        assert would["letters"] == JOINED
        (one,) = await command.documents("dead-letters", "replay", letters[0]["id"])
        assert one["state"] == "replayed"
        (rest,) = await command.documents("dead-letters", "replay", "--type", "member.joined")
        assert rest["replayed"] == JOINED - 1
        (none,) = await command.documents("dead-letters", "replay", "--type", "member.joined")
        assert none["replayed"] == 0
        assert await placed(api, accepted) == JOINED

        unknown = ("--reason", "unknown_type", "--why", "a test of ours", "--yes")
        (gone,) = await command.documents("dead-letters", "discard", *unknown)
        assert gone["discarded"] == UNKNOWN
        discarded = await command.documents("dead-letters", "list", "--state", "discarded")
        assert {(x["note"], x["settled_by"] is not None) for x in discarded} == {("a test of ours", True)}
        assert await command.documents("dead-letters", "list") == []

        (fuse,) = await command.documents("fuse", "show")
        assert fuse["open"] is False
        code, _, err = await command("fuse", "reset", token=stack.mint("ops:read"))
        assert (code, err) == (1, "error: groups refuses: 403 the scope ops:write is required\n")
        code, _, err = await command("fuse", "show", token="nonsense")
        assert (code, err.startswith("error: groups refuses: 401")) == (1, True)


@pytest.mark.heavy
@pytest.mark.timeout(500)
async def test_an_open_fuse_is_seen_and_closed_by_command(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (stack, api, command):
        await poison(stack, FLOOD)
        await command.until_dead(FLOOD)
        (fuse,) = await command.documents("fuse", "show")
        assert not fuse["open"], "garbage opened it"
        mend = await broken(stack)
        crowd = people(FLOOD + 1, ["BR-GAYA"], 6)
        await Arrivals(api).rush(islice(crowd, FLOOD), 8, lambda: None)
        await command.until_dead(FLOOD + RUN_LENGTH)
        (fuse,) = await command.documents("fuse", "show")
        assert (fuse["open"], fuse["cause"], fuse["dead"]) == (True, "run", RUN_LENGTH)
        await mend()
        accepted = await Arrivals(api).rush(crowd, 1, lambda: None)
        await asyncio.sleep(2)
        assert await placed(api, accepted) == 0, "it consumes with an open fuse"
        (fuse,) = await command.documents("fuse", "reset")
        assert fuse["open"] is False
        async with asyncio.timeout(20):
            while await placed(api, accepted) == 0:  # noqa: ASYNC110 (a consumer gives no signal)
                await asyncio.sleep(0.2)
