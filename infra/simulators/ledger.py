"""The record of what a gateway took: whether anybody got two, and whether anything was lost.

Bounded: the newest `keep` messages are held whole; a second one with the same reference is noticed as long as
the first one is held.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that the gateway took.

    `id`         the gateway's: wamid, SmsSid, or the queue id of the mail
    `recipient`  E.164 with `+`, a business-scoped id, or an address
    `reference`  the sender's: `biz_opaque_callback_data`, `CustomField`, or Message-ID; empty without one
    `at`         seconds since 1970, by the simulator's clock
    `kind`       `template`, `text`, `sms`, `mail`, ...
    `template`   its name, or its DLT id; empty without one
    `text`       as the recipient would read it, as far as the gateway knows
    `answered`   whether the sender was told so; False is an unknown outcome to the sender
    """

    number: int
    id: str
    recipient: str
    reference: str
    at: float
    kind: str
    template: str = ""
    text: str = ""
    answered: bool = True
    fields: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """Messages taken and requests refused, of one gateway."""

    def __init__(self, keep: int = 100_000) -> None:
        self._keep = keep
        self._held: OrderedDict[str, Taken] = OrderedDict()
        self._recipients: dict[str, list[Taken]] = {}
        self._references: dict[str, list[Taken]] = {}
        self.count = 0
        """Messages taken since the start, those forgotten included."""
        self.doubled: dict[str, int] = {}
        """References taken more than once, with how often; at most `keep` of them."""
        self.refused: Counter[str] = Counter()
        """Refusals by code."""
        self.faults: Counter[str] = Counter()
        """Faults by name, with `+taken` where the message was taken."""
        self.recent_refusals: deque[tuple[str, str, str]] = deque(maxlen=1_000)
        """`(code, recipient, reference)` of the newest refusals."""

    def take(
        self,
        id: str,
        recipient: str,
        reference: str,
        at: float,
        kind: str,
        *,
        template: str = "",
        text: str = "",
        answered: bool = True,
        fields: dict[str, Any] | None = None,
    ) -> Taken:
        """Record a message."""
        self.count += 1
        taken = Taken(self.count, id, recipient, reference, at, kind, template, text, answered, fields or {})
        self._held[id] = taken
        self._recipients.setdefault(recipient, []).append(taken)
        if reference:
            same = self._references.setdefault(reference, [])
            same.append(taken)
            if len(same) > 1 and (reference in self.doubled or len(self.doubled) < self._keep):
                self.doubled[reference] = self.doubled.get(reference, 1) + 1
        if len(self._held) > self._keep:
            self._forget()
        return taken

    def refuse(self, code: str | int, recipient: str = "", reference: str = "") -> None:
        """Record a refusal."""
        self.refused[str(code)] += 1
        self.recent_refusals.append((str(code), recipient, reference))

    def __iter__(self) -> Iterator[Taken]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def get(self, id: str) -> Taken | None:
        """The message with this id, unless it was forgotten."""
        return self._held.get(id)

    def of(self, recipient: str) -> list[Taken]:
        """The messages of a recipient, oldest first."""
        return list(self._recipients.get(recipient, ()))

    def by_reference(self, reference: str) -> list[Taken]:
        """The messages with a reference, oldest first; two or more are a duplicate."""
        return list(self._references.get(reference, ()))

    def references(self) -> set[str]:
        """Every reference held."""
        return set(self._references)

    def lost(self, references: Iterable[str]) -> set[str]:
        """References among these that were never taken."""
        return {reference for reference in references if reference not in self._references}

    def after(self, number: int, limit: int = 1_000) -> list[Taken]:
        """Messages with a greater `number`, oldest first."""
        page: list[Taken] = []
        for taken in reversed(self._held.values()):
            if taken.number <= number:
                break
            page.append(taken)
        return page[::-1][:limit]

    def summary(self) -> dict[str, Any]:
        """Counts, for the control API."""
        return {
            "taken": self.count,
            "held": len(self._held),
            "doubled": len(self.doubled),
            "recipients": len(self._recipients),
            "refused": dict(self.refused),
            "faults": dict(self.faults),
        }

    def clear(self) -> None:
        """Forget everything."""
        self.__init__(self._keep)  # type: ignore[misc]

    def _forget(self) -> None:
        _, oldest = self._held.popitem(last=False)
        for index, key in ((self._recipients, oldest.recipient), (self._references, oldest.reference)):
            if (same := index.get(key)) is not None:
                same.remove(oldest)
                if not same:
                    del index[key]
