"""Start a child process that cannot outlive its parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    parent = os.getpid()

    def before_exec() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:  # the parent died before prctl took hold
                os._exit(1)

    return before_exec


async def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None,
    death_signal: signal.Signals,
) -> asyncio.subprocess.Process:
    """Run `command` in its own session, so that Ctrl-C reaches only this process, which stops children in
    order.

    If this process dies, even by SIGKILL, the kernel sends `death_signal` to the child (prctl(2),
    PR_SET_PDEATHSIG). It does so when the *thread* that started the child ends, so call this from a thread
    that lives as long as the child should.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal),
        )
