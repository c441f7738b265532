"""The stack's broker. `BROKERS` is the list of the kinds that `--broker` takes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Protocol

from infra.local.binaries import find_embedded_broker
from infra.local.processes import Child

HOST = "127.0.0.1"


class BrokerKind(Protocol):
    """Makes the child process of one kind of broker, of one node, that listens on `port`."""

    def __call__(self, data: Path, log_file: Path, port: int, *, restart: bool = True) -> Child: ...


def embedded(data: Path, log_file: Path, port: int, *, restart: bool = True) -> Child:
    """`noida-db`, for development only.

    It writes its log to disk about once a second and on SIGTERM: killed by SIGKILL, it forgets what it acknowledged
    since. So it is sent SIGTERM, not SIGKILL, should this process die.
    """
    data.mkdir(parents=True, exist_ok=True)
    command = [str(find_embedded_broker()), "start", "--only", "kafka", "--kafka-port", str(port)]
    command += ["--host", HOST, "--data-dir", str(data)]

    async def ready() -> bool:
        return await accepts(port)

    return Child("kafka", command, log_file, ready, restart=restart, death_signal=signal.SIGTERM)


async def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with contextlib.suppress(OSError, TimeoutError):
        _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 1)
        writer.close()
        return True
    return False


BROKERS: dict[str, BrokerKind] = {"embedded": embedded}
