"""A merge on record, and what it needs to be undone, as JSON that is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from services.members.core.domain import UNDO_MERGE_WITHIN
from services.members.core.terms import Term
from services.members.merges.domain import Field, Side, Trace, Values
from services.shared.database import as_dict

_term: Final = as_dict(Term)
_FIELDS: Final = ("choice", "theirs", "before", "after")
_TIMES: Final = ("since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """`other` became one with `survivor`. `by` and `undone_by` are subjects of tokens."""

    id: str
    survivor: str
    other: str
    by: str
    at: datetime
    undone_at: datetime | None = None
    undone_by: str | None = None

    @property
    def undo_until(self) -> datetime:
        return self.at + UNDO_MERGE_WITHIN


def trace_to_json(trace: Trace) -> bytes:
    fields = {name: {field.value: value for field, value in getattr(trace, name).items()} for name in _FIELDS}
    rest = {name: getattr(trace, name) for name in ("pair", "given", "moved", "status")}
    return orjson.dumps({**rest, **fields, "dropped": [_term(term) for term in trace.dropped]})


def trace_from_json(content: bytes) -> Trace:
    stored: dict[str, Any] = orjson.loads(content)
    return Trace(
        pair=(stored["pair"][0], stored["pair"][1]),
        choice={Field(name): Side(side) for name, side in stored["choice"].items()},
        theirs=_values(stored["theirs"]),
        before=_values(stored["before"]),
        after=_values(stored["after"]),
        given=tuple((purpose, channel) for purpose, channel in stored["given"]),
        moved=tuple(stored["moved"]),
        dropped=tuple(_term_of(term) for term in stored["dropped"]),
        status=stored["status"],
    )


def _values(stored: dict[str, Any]) -> Values:
    return {Field(name): value for name, value in stored.items()}


def _term_of(stored: dict[str, Any]) -> Term:
    times = {name: datetime.fromisoformat(value) for name in _TIMES if (value := stored[name])}
    return Term(**stored | times)
