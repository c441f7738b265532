"""The answer to `member.erasure_requested` of each service that keeps something of a member."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.shared.contracts.base import Event
from services.shared.contracts.vocabulary import Attempts, Id, Ordinal, Word


class ErasureAcknowledged(Event):
    """The service has destroyed what it kept of the member. `destroyed` counts it by kind; `attempt` is that
    of the request which it answers, and the sequence."""

    erasure_id: Id
    member_id: Id
    attempt: Ordinal
    destroyed: Annotated[dict[Word, Attempts], Field(default_factory=dict, max_length=32)]
