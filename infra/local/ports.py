"""Ports for a stack on this machine: the requested one if it is free, else any free one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import sys
from typing import Self

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""The only address that the stack listens on."""

# Below Linux's ephemeral range (ip_local_port_range starts at 32768), so that no outgoing connection can take
# a port between our check and the child's bind.
_CANDIDATES = range(20_000, 32_000)


async def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with contextlib.suppress(OSError, TimeoutError):
        _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), 1)
        writer.close()
        return True
    return False


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could bind the port now (with SO_REUSEADDR, as our children bind)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out each port once, because children bind some time after they receive theirs; no other `Ports`
    of this machine hands it out until this one is left, or gone."""

    def __init__(self) -> None:
        self._given: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._given.values():
            held.close()
        self._given.clear()

    def take(self, wanted: int = 0, whose: str = "") -> int:
        """The wanted port, or a free one if `wanted` is 0, in use or already given out; `whose` is told
        then."""
        port = wanted if wanted and self._available(wanted) else self._any()
        if wanted and port != wanted:
            log.warning("port %d of %s is taken; it gets %d", wanted, whose, port)
        return port

    def _available(self, port: int) -> bool:
        if port in self._given or not is_free(port):
            return False
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if sys.platform == "linux":  # elsewhere a name without a file cannot be held
                held.bind(f"\0sangathan-port-{port}")
        except OSError:  # two stacks that start at once: the other one was told this port
            held.close()
            return False
        self._given[port] = held
        return True

    def _any(self) -> int:
        # Random rather than first-free: two stacks that start at once then do not race for the same numbers.
        return next(port for port in random.sample(_CANDIDATES, len(_CANDIDATES)) if self._available(port))
