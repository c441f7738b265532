"""The projector: a batch of one event type in, its effect on facts and counters out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.analytics.core.counting import Changes, EventMapping, Projection
from services.analytics.core.facts import Fact, learn, learn_whole
from services.analytics.core.store import CounterStore
from services.shared.contracts.base import Envelope
from services.shared.messaging import Handler, UnitOfWork, without_leaps


class Projector:
    """Makes the handlers, which all work alike: read the facts, fold what the events change, write it in
    bulk."""

    def __init__(self, store: CounterStore) -> None:
        self._store = store

    def handler(self, projection: Projection, mapping: EventMapping) -> Handler:
        """A handler with one query and at most three bulk writes a batch, whatever its size."""
        rule = learn_whole if mapping.whole else learn

        async def handle(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
            known = await self._store.facts(
                projection.name, [event.subject for event in events], work.session
            )
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
                changes.note(projection, old, after)
                changes.happened(event, mapping.flows(event) if not mapping.whole or before.unheard else ())
            await self._store.save(projection.name, new_facts, grown_facts, changes, work.session)

        return handle
