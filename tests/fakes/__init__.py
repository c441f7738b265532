"""In-memory stand-ins for MongoDB and Kafka, held to the real thing by the suite that runs on both.

Durable state (`Store`, `Log`) is separate from a process's state (a client, a broker), as in reality. Every
call that would cross the network first awaits a `Step` by its name, and so does every reply to a write: there
a test can let other work proceed, raise `ConnectionError` (the request or its reply is lost), or end the
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Step = Callable[[str], Awaitable[None]]


async def unhindered(step: str) -> None:
    """Let other tasks run, as any network call does."""
    await asyncio.sleep(0)
