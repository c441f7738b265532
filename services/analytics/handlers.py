"""The reading handlers: a batch of one event type in, its effect on facts and counters out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.analytics.domain import Changes, Fact, Kind, Statement, learn, learn_whole, unheard
from services.analytics.statements import Flows, no_flows
from services.analytics.store import Store
from services.shared.contracts.base import Envelope
from services.shared.messaging import Handler, UnitOfWork


class Projector:
    """Makes the handlers, which all work alike: read the facts, fold what the events change, write it in bulk."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reads(
        self,
        kind: Kind,
        states: Callable[[Any], Statement],
        flows: Flows = no_flows,
        *,
        whole: bool = False,
    ) -> Handler:
        """A handler: one query and at most three bulk writes a batch, whatever its size.

        `whole`: the event states all there is to know of its subject, whether or not we heard what led there. Its flows
        count only for a subject whose beginning was never heard.
        """
        rule = learn_whole if whole else learn

        async def read(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
            known = await self._store.facts(kind, [event.subject for event in events], work.session)
            changes = Changes()
            new_facts: list[Fact] = []
            grown_facts: list[Fact] = []
            for event in events:
                old = known.get(event.subject)
                new = rule(old, event.subject, event.sequence, states(event.data))
                if new is None:
                    continue
                (new_facts if old is None else grown_facts).append(new)
                changes.note(kind, old, new)
                changes.happened(event, flows(event) if not whole or unheard(old) else ())
            await self._store.save(kind, new_facts, grown_facts, changes, work.session)

        return read
