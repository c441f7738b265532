"""The fuse: stops the consumer after our own code has failed on too many events, because then the service is
broken, not the events.

It counts events that decoded and whose handler failed. What does not decode is another party's and never
opens it (ADR 27): its letter can be read from the topic again, so nothing is drained.

Its state is in MongoDB, so a restart does not resume draining the topic; `reset` (API or command) closes it.
"""

from __future__ import annotations

from collections import deque

from services.shared.clock import Clock
from services.shared.database import Database, Document

FUSE = "handlers"
"""Release 0.1.0 has its own, `consumer`: a process of it that stops, beside new ones, over what only these
know must not stop them."""
WINDOW = 400
RUN_LENGTH = 50


class FuseOpenError(Exception):
    """Consumption has stopped; the present batch must not be committed."""


class Fuse:
    """Opens after `run_length` failed events in a row, or when more than `ratio` of the last `window`
    failed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        ratio: float = 0.5,
        window: int = WINDOW,
        run_length: int = RUN_LENGTH,
    ) -> None:
        self._fuses = database["fuses"]
        self._clock = clock
        self._ratio = ratio
        self._run_length = run_length
        self._run = 0
        self._recent: deque[bool] = deque(maxlen=window)
        self.open = False

    def count(self, *, alive: int = 0, dead: int = 0) -> bool:
        """Count outcomes; True when the fuse must open now."""
        self._recent.extend([False] * alive)
        self._recent.extend([True] * dead)
        self._run = self._run + dead if not alive else dead
        window = self._recent.maxlen or WINDOW
        return self._run >= self._run_length or (
            len(self._recent) == window and sum(self._recent) > self._ratio * window
        )

    async def trip(self) -> None:
        """Open the fuse, and store why."""
        self.open = True
        ran = self._run >= self._run_length
        dead, of = (self._run, self._run) if ran else (sum(self._recent), len(self._recent))
        await self._write({"open": True, "cause": "run" if ran else "ratio", "dead": dead, "of": of})

    async def refresh(self) -> bool:
        """Read the shared state; True if the fuse is open."""
        state = await self._fuses.find_one({"_id": FUSE})
        is_open = bool(state and state["open"])
        if self.open and not is_open:
            self._recent.clear()
            self._run = 0
        self.open = is_open
        return is_open

    async def state(self) -> Document:
        """`{open, since, cause, dead, of}`: `dead` of the last `of` records died; the last three are None
        while closed."""
        state = await self._fuses.find_one({"_id": FUSE}) or {}
        why = {name: state.get(name) for name in ("cause", "dead", "of")}
        return {"open": bool(state.get("open")), "since": state.get("at"), **why}

    async def reset(self) -> None:
        await self._write({"open": False})
        await self.refresh()

    async def _write(self, state: Document) -> None:
        await self._fuses.replace_one({"_id": FUSE}, {**state, "at": self._clock.now()}, upsert=True)
