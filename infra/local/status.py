"""Shows a running stack on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import httpx2
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.local.processes import Child, State
from infra.local.stack import LocalStack

_COLOURS = {State.READY: "green", State.STARTING: "yellow", State.STOPPING: "yellow"}
"""Any other state is red."""
_NO_FLOWS: Mapping[str, str] = {}


async def watch(stack: LocalStack, console: Console) -> None:
    """Show the stack until cancelled: live on a terminal; elsewhere once as plain lines, and then a line for
    each child that falls silent or answers again."""
    if console.is_terminal:
        await _show_live(stack, console)
    else:
        console.print("\n".join(describe(stack)))
        await _report_changes(stack, console)


async def _show_live(stack: LocalStack, console: Console) -> None:
    headers = {"Authorization": f"Bearer {stack.token}"}
    states, counts = await look(stack), ""
    async with httpx2.AsyncClient(timeout=1, trust_env=False, headers=headers) as client:
        with Live(_table(stack, states, counts), console=console, refresh_per_second=2) as live:
            try:
                while True:
                    states, flowing, counts = await asyncio.gather(
                        look(stack), flows(stack, client), _counts(stack, client)
                    )
                    live.update(_table(stack, states, counts, flowing))
                    await asyncio.sleep(1)
            finally:  # the last frame stays on the terminal while the stack stops
                live.update(_table(stack, dict.fromkeys(states, State.STOPPING), counts))


async def _report_changes(stack: LocalStack, console: Console) -> None:
    silent: set[str] = set()
    while True:
        now = {name for name, state in (await look(stack)).items() if state is State.SILENT}
        for name in sorted(now ^ silent):
            console.print(f"{name} {'does not answer' if name in now else 'answers again'}")
        silent = now
        await asyncio.sleep(1)


async def look(stack: LocalStack) -> dict[str, State]:
    """The present state of each process, asked within 2 s."""
    states = await asyncio.gather(*(child.look() for child in stack.processes.values()))
    return dict(zip(stack.processes, states, strict=True))


def describe(stack: LocalStack) -> list[str]:
    """The addresses, one per line."""
    lines = [f"{name:14}{url}/docs" for name, url in stack.urls.items()]
    return [
        *lines,
        f"{'kafka':14}{stack.kafka}",
        f"{'mongo':14}{stack.mongo}",
        f"{'for scripts':14}{stack.directory}/stack.json",
    ]


def _table(
    stack: LocalStack, states: Mapping[str, State], counts: str, flowing: Mapping[str, str] = _NO_FLOWS
) -> RenderableType:
    addresses = {"kafka": stack.kafka, "mongo": stack.mongo, **stack.urls}
    table = Table("", "state", "up", "restarts", "address", "events", box=None, pad_edge=False)
    for name, child in stack.processes.items():
        row = name, _state(states[name]), _uptime(child), str(child.restarts), addresses.get(name, "")
        table.add_row(*row, flowing.get(name, ""))
    return Group(
        table, Text(f"{counts}{stack.directory}/stack.json has all of this; Ctrl-C stops", style="dim")
    )


def _state(state: State) -> Text:
    return Text(state, style=_COLOURS.get(state, "red"))


def _uptime(child: Child) -> str:
    return str(timedelta(seconds=int(child.uptime)))


async def flows(stack: LocalStack, client: httpx2.AsyncClient) -> dict[str, str]:
    """Whether events flow through each process of a service, or what stops them; "" without an answer."""
    found = await asyncio.gather(*(_flow(client, url) for url in stack.urls.values()))
    return dict(zip(stack.urls, found, strict=True))


async def _flow(client: httpx2.AsyncClient, url: str) -> str:
    try:
        status = (await client.get(f"{url}/v1/ops/status")).raise_for_status().json()
        return "flow" if status["flowing"] else "; ".join(map(str, status["reasons"].values()))
    except (httpx2.HTTPError, KeyError, ValueError):
        return ""


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
