"""Shows a running stack on a terminal."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx2
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.local.processes import Child, State
from infra.local.stack import LocalStack

_COLOURS = {State.READY: "green", State.STARTING: "yellow", State.WAITING: "red", State.STOPPED: "red"}


async def watch(stack: LocalStack, console: Console) -> None:
    """Show the stack until cancelled: live on a terminal, once as plain lines elsewhere.

    Elsewhere, restarts show up as log lines.
    """
    if not console.is_terminal:
        console.print("\n".join(describe(stack)))
        await asyncio.Event().wait()
    headers = {"Authorization": f"Bearer {stack.token}"}
    async with httpx2.AsyncClient(timeout=1, trust_env=False, headers=headers) as client:
        with Live(_table(stack, ""), console=console, refresh_per_second=2) as live:
            while True:
                live.update(_table(stack, await _counts(stack, client)))
                await asyncio.sleep(1)


def describe(stack: LocalStack) -> list[str]:
    """The addresses, one per line."""
    lines = [f"{name:14}{url}/docs" for name, url in stack.urls.items()]
    return [
        *lines,
        f"{'kafka':14}{stack.kafka}",
        f"{'mongo':14}{stack.mongo}",
        f"{'for scripts':14}{stack.directory}/stack.json",
    ]


def _table(stack: LocalStack, counts: str) -> RenderableType:
    addresses = {"kafka": stack.kafka, "mongo": stack.mongo, **stack.urls}
    table = Table("", "state", "up", "restarts", "address", box=None, pad_edge=False)
    for name, child in stack.processes.items():
        table.add_row(name, _state(child), _uptime(child), str(child.restarts), addresses.get(name, ""))
    return Group(
        table, Text(f"{counts}{stack.directory}/stack.json has all of this; Ctrl-C stops", style="dim")
    )


def _state(child: Child) -> Text:
    return Text(child.state, style=_COLOURS[child.state])


def _uptime(child: Child) -> str:
    return str(timedelta(seconds=int(child.uptime)))


async def _counts(stack: LocalStack, client: httpx2.AsyncClient) -> str:
    """`1,204 members, 37 groups; ` as analytics counts them; empty when it does not answer."""
    if "analytics" not in stack.urls:
        return ""
    try:
        answer = await client.get(f"{stack.urls['analytics']}/v1/overview")
        totals = answer.raise_for_status().json()
        return f"{totals['members']['total']:,} members, {totals['groups']['total']:,} groups; "
    except (httpx2.HTTPError, KeyError, ValueError):
        return ""
