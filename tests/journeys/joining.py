"""Registers a crowd on a running stack, and reads the books until they balance."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted, Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.lines import Line
from infra.local.demo.people import people
from infra.local.demo.tree import codes, read_tree
from tests.journeys.test_kill import settled


async def import_units(api: Api) -> str:
    """Import the sample tree; returns its text."""
    tree = read_tree()
    headers = {"content-type": "text/csv"}
    answer = await api.send("POST", "groups", "/v1/units/imports", content=tree.encode(), headers=headers)
    assert answer.status_code == 200, answer.text
    return tree


async def join(api: Api, count: int, *, seed: int = 7) -> tuple[Sequence[Accepted], Sequence[Line]]:
    """The accepted members, and the books once they balance for that many."""
    tree = await import_units(api)
    links = InviteLinks(api)
    giving = asyncio.create_task(links.keep_giving())
    try:
        accepted = await Arrivals(api).rush(people(count, codes(tree), seed), 8, lambda: None)
        return accepted, await settled(api, len(accepted))
    finally:
        giving.cancel()
