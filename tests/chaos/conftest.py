"""One stack for all faults, each applied to the state that earlier ones left; and the report."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rich.console import Console
from rich.table import Table

from infra.local.stack import LocalStack
from tests.chaos.faults import ENVIRONMENT
from tests.chaos.scene import CAPACITY, Row, Scene
from tests.chaos.scene import scene as under_load

SEED = int(os.environ.get("SEED", "7"))
BROKER = os.environ.get("SANGATHAN_LOCAL_BROKER", "kafka")
REPORT = pytest.StashKey[list[Row]]()
COLUMNS = ("fault", "times", "accepted", "effects", "lost", "doubled", "recovery")
RULE = ("---", *["---:"] * (len(COLUMNS) - 1))
INTRODUCTION = """\
# Faults

Written by `REPORT=docs/faults.md make chaos`, which anyone can run; `SEED=` changes order and moments.

Members join at a steady pace while each fault strikes; a fault that did not fire fails its test. *accepted*:
POSTs answered 201 meanwhile. *effects*: accepted members with exactly one event of each step (joined, placed,
welcomed), in order. The books compare the totals of members, seats, welcomes and counts, and no good event is
dead-lettered. *recovery*: from the end of the fault until the books of all services balance; restarted
consumers wait up to 10 s for the session of the killed process to expire, and up to 15 s for the locks of its
transaction.

Where messages go by gateways, on a stack of its own, the simulators' record tells: *effects* are accepted
members who got exactly one message, or whose message is listed with an unknown outcome and is not sent again;
*lost* got none and are not listed, *doubled* got two.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("chaos")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    orders = tmp_path_factory.mktemp("orders")
    every = {"CHAOS_DIR": str(orders)}
    env = {
        "members": every | dict(ENVIRONMENT["members"]),
        "groups": every | {"SANGATHAN_GROUP_CAPACITY": str(CAPACITY)},
        "notifications": every | {"SANGATHAN_CLAIM_SECONDS": "10"},
        "analytics": every,
    }
    stack = LocalStack(
        tmp_path_factory.mktemp("stack"),
        broker=BROKER,
        mongo_nodes=3,
        replicas={"groups": 2},
        env=env,
        command=lambda name: [sys.executable, "-m", "tests.chaos.saboteur", name],
    )
    async with stack, under_load(orders, SEED, stack) as running:
        running.rows = request.config.stash.setdefault(REPORT, running.rows)
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(REPORT, [])
    if not rows:
        return
    title = f"Faults on {BROKER}, three mongods, two processes of groups, {os.cpu_count()} cores, seed {SEED}"
    table = Table(*COLUMNS, title=title)
    cells = [
        [r.fault, *map(str, (r.times, r.accepted, r.effects, r.lost, r.doubled)), f"{r.recovery:.1f} s"]
        for r in rows
    ]
    for row in cells:
        table.add_row(*row)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    terminalreporter.write_line(console.export_text())
    if file := os.environ.get("REPORT"):
        lines = [
            INTRODUCTION,
            title + ":",
            "",
            *("| " + " | ".join(row) + " |" for row in (COLUMNS, RULE, *cells)),
        ]
        Path(file).write_text("\n".join(lines) + "\n")
