"""MongoDB's time, by which processes agree on what is due although their own clocks differ."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from services.shared.clock import Clock
from services.shared.database.mongo import Client


class ServerClock:
    """The clock of the MongoDB primary, for times that another process acts on: due times and pauses.

    `read` asks the primary; in between, the monotonic clock carries the time on, which nobody sets. So `now`
    costs no round trip, and a process whose own clock is wrong, or is set while it runs, agrees with all
    others to within a round trip. It is not ahead of the server, so what is due now is due to the server too.
    Before the first `read` it is the process's own clock.

    Where two processes must not act at once, the write itself has to compare with `$$NOW`: a primary that was
    elected since the last `read` may have another time.
    """

    def __init__(self, client: Client, own: Clock) -> None:
        self._client = client
        self._own = own
        self._offset: float | None = None
        """Seconds to add to the monotonic clock."""

    def now(self) -> datetime:
        if self._offset is None:
            return self._own.now()
        return datetime.fromtimestamp(int((time.monotonic() + self._offset) * 1000) / 1000, UTC)

    async def read(self) -> float:
        """Ask the primary for its time.

        Returns by how many seconds the process's own clock is ahead of it, at least; negative if it is
        behind, 0 if the difference is within the round trip.

        Raises: `pymongo.errors.PyMongoError`.
        """
        own, asked = self._own.now().timestamp(), time.monotonic()
        hello = await self._client.admin.command("hello")
        answered = time.monotonic()
        theirs: float = hello["localTime"].replace(tzinfo=UTC).timestamp()
        # Their clock was read at some instant between the two.
        least, most = theirs - answered, theirs - asked
        if self._offset is None or not least <= self._offset <= most:
            self._offset = least
        ahead = own - asked
        return ahead - min(max(ahead, least), most)
