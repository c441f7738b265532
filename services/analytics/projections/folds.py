"""Folds: a batch of one event type in, its effect on one generation of a projection out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from services.analytics.core.counting import Changes, Projection
from services.analytics.core.facts import Fact, learn, learn_whole
from services.analytics.core.places import Place
from services.analytics.core.store import CounterStore
from services.shared.contracts.base import Envelope, Event
from services.shared.messaging import UnitOfWork, without_leaps


class Fold(Protocol):
    """One version of one projection.

    Folding is safe to repeat, and subjects do not depend on each other's order: a build that reads the log
    from its beginning and consumers that have met the same events one by one reach the same.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def events(self) -> Collection[type[Event]]: ...

    @property
    def compared(self) -> Sequence[str]:
        """The collections that the events alone determine, by which drift is found."""
        ...

    def has(self, key: str) -> bool:
        """Whether a counter is this projection's."""
        ...

    async def create(self, place: Place) -> None:
        """Create the collections of a new generation."""
        ...

    async def fold(
        self, events: Sequence[Envelope[Any]], work: UnitOfWork, place: Place, *, settled_later: bool = False
    ) -> None:
        """Fold events of one type, each subject once, in the transaction of `work`. `settled_later`: a build
        settles everything once it has read the log."""
        ...

    async def settle(self, place: Place, work: UnitOfWork) -> int:
        """Work out a part of what follows of folded events; 0 when nothing is left."""
        ...

    async def settle_after(self, place: Place, after: str, work: UnitOfWork) -> str | None:
        """Work out what follows of all events, for some subjects after `after`; None at the end."""
        ...

    async def is_settled(self, place: Place) -> bool: ...


class CountingFold:
    """Facts, counters and days of one kind of subject: read the facts, fold what the events change, write it
    in bulk."""

    compared = ("facts", "counters", "days")

    def __init__(self, projection: Projection, store: CounterStore) -> None:
        self.name = projection.name
        self.version = projection.version
        self.events = projection.mappings.keys()
        self.has = projection.has
        self._projection = projection
        self._store = store

    async def create(self, place: Place) -> None:
        await self._store.create(place)

    async def fold(
        self, events: Sequence[Envelope[Any]], work: UnitOfWork, place: Place, *, settled_later: bool = False
    ) -> None:
        """One query and at most three bulk writes a batch, whatever its size."""
        mapping = self._projection.mappings[type(events[0].data)]
        rule = learn_whole if mapping.whole else learn
        known = await self._store.facts(place, [event.subject for event in events], work.session)
        changes = Changes()
        new_facts: list[Fact] = []
        grown_facts: list[Fact] = []
        for event in without_leaps(events, lambda id_: known[id_].newest if id_ in known else 0, work):
            old = known.get(event.subject)
            before = old or Fact(event.subject)
            after = rule(before, event.sequence, mapping.states(event.data))
            if after is None:
                continue
            (new_facts if old is None else grown_facts).append(after)
            changes.note(self._projection, old, after)
            changes.happened(event, mapping.flows(event) if not mapping.whole or before.unheard else ())
        await self._store.save(place, new_facts, grown_facts, changes, work.session)

    async def settle(self, place: Place, work: UnitOfWork) -> int:
        return 0

    async def settle_after(self, place: Place, after: str, work: UnitOfWork) -> str | None:
        return None

    async def is_settled(self, place: Place) -> bool:
        return True
