"""Every member's events in the log: the books that must balance after any fault.

The log may hold a record twice (a relay died between acknowledgement and delete); with the same id it is one
event.
An effect that happened twice is two events.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from services.shared.contracts.catalogue import EVENTS
from services.shared.errors import TransientError
from services.shared.messaging import Consumer, KafkaBroker, Record, decode

WELCOME_ENDS = ("notification.sent", "notification.suppressed", "notification.failed")
ONCE = {"member.joined": "joined", "group.member_assigned": "placed"} | dict.fromkeys(
    WELCOME_ENDS, "welcomed"
)
"""Event types of which every member has exactly one."""


@dataclass
class Ledger:
    """Reads the whole log as it grows."""

    kafka: str
    records: int = 0
    bad: int = 0
    """Records that do not decode: the injected poison."""
    copies: int = 0
    out_of_order: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _effects: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _sequence: dict[tuple[str, str], int] = field(default_factory=dict)
    _behind: int = 1
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        consumer = await KafkaBroker(self.kafka, client_id="ledger").consumer(
            "ledger", sorted({event.topic for event in EVENTS})
        )
        self._reading = asyncio.create_task(self._read(consumer))

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def caught_up(self, seconds: float = 30) -> None:
        """Wait until everything now in the log has been read."""
        deadline = asyncio.get_running_loop().time() + seconds
        calm = 0
        while calm < 3:
            assert asyncio.get_running_loop().time() < deadline, f"{self._behind} records behind"
            before = self.records
            await asyncio.sleep(0.3)
            calm = calm + 1 if before == self.records and not self._behind else 0

    def lost(self, accepted: Collection[str]) -> set[str]:
        """Members with a missing effect."""
        effects = set(ONCE.values())
        return {member for member in accepted if not self._effects[member].keys() >= effects}

    def doubled(self) -> set[str]:
        """Members for whom an effect happened more than once."""
        return {member for member, counts in self._effects.items() if max(counts.values(), default=0) > 1}

    def uncalled_for(self, accepted: Collection[str]) -> set[str]:
        """Members with effects but without an accepted request."""
        return {member for member, counts in self._effects.items() if counts} - set(accepted)

    def gaps(self) -> list[str]:
        """Subjects whose events did not first appear as 1, 2, 3, ..."""
        return self.out_of_order

    async def _read(self, consumer: Consumer) -> None:
        try:
            while True:
                try:
                    for record in await consumer.fetch(2000, 0.25):
                        self._note(record)
                    self._behind = sum((await consumer.lag()).values())
                except TransientError:
                    await asyncio.sleep(0.2)
        finally:
            await consumer.stop()

    def _note(self, record: Record) -> None:
        self.records += 1
        try:
            event = decode(record)
        except Exception:
            self.bad += 1
            return
        if event.id in self._seen:
            self.copies += 1
            return
        self._seen.add(event.id)
        subject = (event.data.topic, event.subject)
        if event.sequence != self._sequence.get(subject, 0) + 1:
            self.out_of_order.append(f"{event.type} {event.subject} {event.sequence}")
        self._sequence[subject] = event.sequence
        if effect := ONCE.get(event.type):
            self._effects[str(event.data.model_dump()["member_id"])][effect] += 1
