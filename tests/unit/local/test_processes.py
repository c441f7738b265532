"""The process supervisor with real children: small Python programs that record events in files."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local.errors import LocalError
from infra.local.processes import Backoff, Child, State, tail

READY_THEN_SLEEP = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
DEAF_TO_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY_THEN_SLEEP
CLEAN_ON_SIGTERM = (
    "import signal, sys, pathlib; signal.signal(signal.SIGTERM,"
    " lambda *_: (pathlib.Path(sys.argv[1]).with_name('bye').touch(), sys.exit(0))); " + READY_THEN_SLEEP
)


def make(tmp_path: Path, program: str, **options) -> Child:
    flag = tmp_path / "ready"

    async def ready() -> bool:
        return flag.exists()

    return Child(
        "sample", [sys.executable, "-c", program, str(flag)], tmp_path / "sample.log", ready, **options
    )


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_starts_and_stops(tmp_path):
    child = make(tmp_path, READY_THEN_SLEEP)
    await child.start()
    assert (child.state, runs(child.pid)) == (State.READY, True)
    await child.stop()
    assert (child.state, runs(child.pid)) == (State.STOPPED, False)


async def test_sigterm_lets_a_child_clean_up(tmp_path):
    child = make(tmp_path, CLEAN_ON_SIGTERM)
    await child.start()
    await child.stop()
    assert (tmp_path / "bye").exists()


async def test_a_frozen_child_still_hears_sigterm(tmp_path):
    child = make(tmp_path, CLEAN_ON_SIGTERM)
    await child.start()
    child.signal(signal.SIGSTOP)
    await child.stop()
    assert (tmp_path / "bye").exists()


async def test_a_child_deaf_to_sigterm_is_killed(tmp_path):
    child = make(tmp_path, DEAF_TO_SIGTERM)
    await child.start()
    started = time.monotonic()
    await child.stop(within=0.5)
    assert 0.5 <= time.monotonic() - started < 5
    assert not runs(child.pid)


async def test_a_killed_child_is_restarted_and_logged(tmp_path, caplog):
    recovered = asyncio.Event()

    async def recover() -> None:
        recovered.set()

    child = make(tmp_path, READY_THEN_SLEEP, backoff=Backoff(first=0.05), recover=recover)
    await child.start()
    first = child.pid
    with caplog.at_level(logging.WARNING):
        child.kill()
        await child.wait_ready(within=10)
        await until(recovered.is_set)
    assert child.pid != first
    assert child.restarts == 1
    assert "sample exited with code -9; restarting in 0.1 s" in caplog.text
    await child.stop()


async def test_a_child_that_may_not_restart_stays_down(tmp_path):
    child = make(tmp_path, READY_THEN_SLEEP, restart=False)
    await child.start()
    child.kill()
    with pytest.raises(LocalError, match="sample"):
        await child.wait_ready(within=10)
    assert (child.state, child.restarts) == (State.STOPPED, 0)


async def test_a_crash_loop_waits_longer_each_time_and_can_be_stopped(tmp_path):
    births = tmp_path / "births"
    program = f"import time; open({str(births)!r}, 'a').write(f'{{time.time()}}\\n'); " + READY_THEN_SLEEP
    child = make(tmp_path, program.replace("time.sleep(60)", "time.sleep(0.2)"), backoff=Backoff(first=0.25))
    await child.start()
    await until(lambda: len(births.read_text().split()) >= 5, within=60)
    await child.stop()
    times = [float(line) for line in births.read_text().split()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # A busy machine makes any of them longer, but none shorter.
    assert [gap > 0.2 + wait for gap, wait in zip(gaps, (0.25, 0.5, 1.0, 2.0), strict=False)] == [True] * 4
    count = len(times)
    await asyncio.sleep(0.5)
    assert len(births.read_text().split()) == count


async def test_a_child_that_exits_at_once_fails_with_its_last_words(tmp_path):
    child = make(tmp_path, "import sys; sys.exit('no such key')")
    with pytest.raises(LocalError, match=r"exited with code 1 before it was ready(.|\n)*no such key"):
        await child.start()
    assert child.state is State.STOPPED


async def test_a_child_that_never_gets_ready_is_not_left_behind(tmp_path):
    child = make(tmp_path, "import time; time.sleep(60)", ready_within=0.3)
    with pytest.raises(LocalError, match="did not become ready"):
        await child.start()
    assert not runs(child.pid)


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path):
    child = make(tmp_path, "import time; time.sleep(60)")
    start = asyncio.create_task(child.start())
    await asyncio.sleep(0.3)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not runs(child.pid)


RUNNER = """
import asyncio, pathlib, sys
from infra.local.processes import Child
flag = pathlib.Path(sys.argv[1])
async def ready(): return flag.exists()
async def main():
    child = Child("sample", [sys.executable, "-c", sys.argv[2], str(flag)], flag.with_name("log"), ready)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_no_orphan_outlives_a_killed_runner(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path / "ready"), DEAF_TO_SIGTERM],
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout
        orphan = int(runner.stdout.readline())
        assert runs(orphan)
        os.kill(runner.pid, signal.SIGKILL)
    asyncio.run(until(lambda: not runs(orphan)))


def test_backoff_doubles_to_a_limit_and_forgets_after_calm():
    backoff = Backoff(first=0.2, longest=1.0, calm=30)
    assert [backoff.after(1) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.after(31) == 0.2
    assert backoff.after(1) == 0.4


def test_the_loaders_warning_is_left_out_of_the_tail(tmp_path):
    file = tmp_path / "log"
    file.write_text("x: weak version `GLIBC_2.39' not found\nreal trouble\n")
    assert tail(file) == "real trouble"
    assert tail(tmp_path / "none") == ""
