"""The status table: it shows what is true now, and nothing as ready that is about to stop."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from infra.local import status
from infra.local.processes import Child, State
from infra.local.stack import LocalStack


async def yes() -> bool:
    return True


def child(tmp_path: Path, name: str = "groups") -> Child:
    return Child(name, [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / f"{name}.log", yes)


def stack_of(*children: Child) -> LocalStack:
    facts = SimpleNamespace(
        processes={each.name: each for each in children},
        kafka="k",
        mongo="m",
        urls={},
        token="t",
        directory=Path("/d"),
    )
    return cast(LocalStack, facts)


async def test_a_frozen_child_is_not_ready_although_its_port_still_accepts(tmp_path: Path) -> None:
    one = child(tmp_path)
    await one.start()
    try:
        assert await one.look() is State.READY
        one.signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)
        assert await one.look() is State.SILENT
        one.signal(signal.SIGCONT)
        await asyncio.sleep(0.1)
        assert await one.look() is State.READY
    finally:
        await one.stop(1)
    assert await one.look() is State.STOPPED


async def until_shown(screen: io.StringIO, text: str) -> None:
    for _ in range(400):
        if text in screen.getvalue():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(screen.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
async def test_the_last_frame_says_stopping_and_a_silent_child_is_told(
    tmp_path: Path, terminal: bool
) -> None:
    one = child(tmp_path)
    await one.start()
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100)
    watching = asyncio.create_task(status.watch(stack_of(one), console))
    try:
        await until_shown(screen, "stack.json")
        one.signal(signal.SIGSTOP)
        await until_shown(screen, "not answering" if terminal else "groups does not answer")
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        one.signal(signal.SIGCONT)
        await one.stop(1)
    if terminal:
        last = screen.getvalue().rpartition("not answering")[2]
        assert "stopping" in last
        assert "ready" not in last
