"""Observations and what groups count of them.

`observations {_id: group id/member id, group_id, member_id, unit, kind, seat, elsewhere, since?,
invited_at?, reinvites, present_at?, absent_at?, due_at?, reset?, sequence, changed_at}`, and for queries
`state` and `cause?`.

`groups.observed {at, complete_at?, joined, never_came, left, two_groups, no_seat, strangers, unreadable}`:
whoever writes an observation writes the counts in the same transaction, so no reading has to add them up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne

from services.groups.core.domain import Group, Placement, PlacementState
from services.groups.core.observations.domain import COUNTED, Changed, Observation, observation_id
from services.groups.core.store import PLACEMENTS, Write, by_id, seated_in, write
from services.shared.database import Codec, Database, Document, Migration, Session, create
from services.shared.encryption import create_key_collection

_OPTIONAL: Final = ["since", "invited_at", "present_at", "absent_at", "due_at", "reset"]
OBSERVATIONS: Final = Codec(Observation, id_field="id", omit_none=_OPTIONAL)


class ObservationStore:
    def __init__(self, database: Database) -> None:
        self._observations = database["observations"]
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def by_pair(
        self, pairs: Many[tuple[str, str]], session: Session | None = None
    ) -> dict[str, Observation]:
        """By id, of those of the pairs (group id, member id) that have one."""
        return await by_id(self._observations, OBSERVATIONS, [observation_id(*p) for p in pairs], session)

    async def of_members(
        self, member_ids: Many[str], session: Session | None = None
    ) -> dict[str, Observation]:
        found = self._observations.find({"member_id": {"$in": list(member_ids)}}, session=session)
        return {row["_id"]: OBSERVATIONS.decode(row) async for row in found}

    async def in_group(
        self,
        group_id: str,
        after: str | None,
        limit: int,
        *,
        state: str | None = None,
        cause: str | None = None,
        drifting: bool = False,
        session: Session | None = None,
    ) -> list[Observation]:
        """Observations of a group in the order of the members' ids. `drifting`: with a cause, whichever."""
        query: Document = {"group_id": group_id}
        if state is not None:
            query |= {"state": state, "seat": True}
        if cause is not None or drifting:
            query["cause"] = cause if cause is not None else {"$type": "string"}
        if after is not None:
            query["member_id"] = {"$gt": after}
        rows = self._observations.find(query, session=session).sort("member_id", ASCENDING).limit(limit)
        return [OBSERVATIONS.decode(row) async for row in rows]

    async def seated(
        self, group: Group, after: str | None, limit: int, session: Session | None = None
    ) -> list[Placement]:
        """The placements of the members who have a seat in a group, in the order of their ids."""
        query = seated_in(group)
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._placements.find(query, session=session).sort("_id", ASCENDING).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]

    async def save(self, changes: Sequence[Changed], session: Session) -> None:
        """Write the observations, and the counts of their groups: two bulk writes."""
        news = [change for change in changes if change.before != change.after]
        await write(self._observations, [_save(change) for change in news], session)
        await self._count(news, session)

    async def settle(self, changes: Sequence[Changed]) -> None:
        """Write observations without their counts, which a rebuild sets at its end."""
        await write(self._observations, [_save(each) for each in changes if each.before != each.after])

    async def forget(self, observations: Sequence[Observation], session: Session) -> None:
        ids = [each.id for each in observations]
        if ids:
            await self._observations.delete_many({"_id": {"$in": ids}}, session=session)
            await self._add(_sums([(each, None) for each in observations]), session)

    async def follow(self, groups: Mapping[str, str], limit: int, session: Session) -> int:
        """Let observations of groups, `{id: unit}`, be of the unit that their group has come to; how many
        were not, at most `limit` at once."""
        units = {"$nin": list(set(groups.values()))}
        query: Document = {"group_id": {"$in": list(groups)}, "unit": units}
        rows = self._observations.find(query, {"group_id": 1}, session=session).limit(limit)
        writes: list[Write] = [
            UpdateOne({"_id": row["_id"]}, {"$set": {"unit": groups[row["group_id"]]}}) async for row in rows
        ]
        await write(self._observations, writes, session)
        return len(writes)

    async def renumber(self, sequences: Mapping[str, int], session: Session) -> None:
        """Store the sequence of each member's last event."""
        writes: list[Write] = [
            UpdateOne({"_id": id_}, {"$set": {"sequence": number}}) for id_, number in sequences.items()
        ]
        await write(self._placements, writes, session)

    async def _count(self, changes: Sequence[Changed], session: Session) -> None:
        await self._add(_sums([(c.before, c.after) for c in changes]), session)

    async def _add(self, sums: Mapping[str, Counter[str]], session: Session) -> None:
        writes: list[Write] = []
        for group_id, counts in sums.items():
            by = {f"observed.{name}": n for name, n in counts.items() if n}
            if by:
                writes.append(UpdateOne({"_id": group_id}, {"$inc": by}))
        await write(self._groups, writes, session)


def _sums(changes: Sequence[tuple[Observation | None, Observation | None]]) -> dict[str, Counter[str]]:
    sums: dict[str, Counter[str]] = {}
    for before, after in changes:
        for each, by in ((before, -1), (after, 1)):
            if each is not None and each.counted is not None:
                sums.setdefault(each.group_id, Counter())[each.counted] += by
    return sums


def _save(change: Changed) -> Write:
    document = _document(change.after)
    if change.before is None:
        return InsertOne(document)
    old = _document(change.before)
    update: dict[str, Any] = {}
    if news := {key: value for key, value in document.items() if old.get(key) != value}:
        update["$set"] = news
    if gone := dict.fromkeys(old.keys() - document.keys(), ""):
        update["$unset"] = gone
    return UpdateOne({"_id": change.after.id}, update)


def _document(observation: Observation) -> Document:
    document = OBSERVATIONS.encode(observation) | {"state": observation.state.value}
    if observation.cause is not None:
        document["cause"] = observation.cause.value
    return document


def no_counts() -> dict[str, int]:
    return dict.fromkeys(COUNTED, 0)


async def _create_observations(database: Database) -> None:
    """Every index is there for a query, named beside it."""
    await create_key_collection(database)
    flag, date = {"bsonType": "bool"}, {"bsonType": "date"}
    states = [PlacementState.ASSIGNED, PlacementState.INVITED, PlacementState.JOINED, PlacementState.LEFT]
    await create(
        database,
        "observations",
        required={
            "group_id": {"bsonType": "string"},
            "member_id": {"bsonType": "string"},
            "seat": flag,
            "elsewhere": flag,
            "state": {"enum": [state.value for state in states]},
            "changed_at": date,
        },
        indexes=[
            # in_group: all of a group, by state, by cause.
            IndexModel([("group_id", 1), ("member_id", 1)], unique=True),
            IndexModel([("group_id", 1), ("state", 1), ("member_id", 1)]),
            IndexModel(
                [("group_id", 1), ("cause", 1), ("member_id", 1)],
                partialFilterExpression={"cause": {"$type": "string"}},
            ),
            # of_members
            IndexModel("member_id"),
            # invites: those who are to be invited again, in order.
            IndexModel("due_at", sparse=True),
        ],
    )
    # Drift of a subtree: only groups of which there was a roster.
    by_unit = IndexModel(
        [("unit", 1), ("observed.at", 1)], partialFilterExpression={"observed.at": {"$type": "date"}}
    )
    await database["groups"].create_indexes([by_unit])


OBSERVATION_MIGRATIONS: Final = (Migration("core-0004", "observations of rosters", _create_observations),)
