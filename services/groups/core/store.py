"""The collections of the groups service, and the queries that several features share.

`units {_id: code, level, parent, name{en,hi}, women_target, version, constituency?, constituency_name?,
successors?, retired_at?, terms, searchable}`: `successors` only of those retired; `terms` by `unit_terms`
`groups {_id, unit, kind, ordinal, name{en,hi}, capacity, taken, state, invite_link, link_lost?, version}`
`placements {_id: member id, member_sequence, sequence, unit, group_id, kind, ordinal, state, since}`

What is new is inserted, what changes is `$set`: an upsert costs MongoDB several times as much as an insert.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from pymongo import IndexModel, InsertOne, UpdateOne

from services.groups.core.domain import Group, GroupState, Placement, PlacementState, Unit
from services.shared.contracts.successions import standing_for
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.names import sound_key
from services.shared.text import searchable_words

A = TypeVar("A")
Write: TypeAlias = "InsertOne[Document] | UpdateOne"

UNITS: Final = Codec(
    Unit,
    id_field="code",
    omit_none=["constituency", "constituency_name", "successors", "retired_at", "redrawing_id"],
)
SOUND: Final = "~"
"""Begins the terms that are sounds."""
RULES: Final = 1
"""Raised with every change of what a unit's terms are, so that they are derived anew."""
GROUPS: Final = Codec(Group, id_field="id", omit_none=["link_lost"])
PLACEMENTS: Final = Codec(Placement, id_field="member_id")


class CoreStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def units(self, codes: Many[str], session: Session | None = None) -> dict[str, Unit]:
        return await by_id(self._units, UNITS, codes, session)

    async def live_units(self, codes: Many[str], session: Session | None = None) -> dict[str, Unit]:
        """By the codes asked for: the unit itself, or the one that stands for it now, if there is one."""
        known: dict[str, Unit] = {}
        asked = set(codes)
        while asked:
            found = await self.units(asked, session)
            known |= found
            asked = {each for unit in found.values() for each in unit.successors or ()} - known.keys()
        retired = {unit.code: unit.successors for unit in known.values() if unit.successors is not None}
        now = {code: standing_for(code, retired) for code in codes}
        return {code: known[unit] for code, unit in now.items() if unit in known}

    async def groups(self, ids: Many[str], session: Session | None = None) -> dict[str, Group]:
        return await by_id(self._groups, GROUPS, ids, session)

    async def placements(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Placement]:
        return await by_id(self._placements, PLACEMENTS, member_ids, session)

    async def save_units(self, units: Iterable[Unit], known: Many[str], session: Session) -> None:
        """Insert the units, or change those whose codes are `known`."""
        await write(
            self._units,
            [_save(UNITS, u, changed=u.code in known, **unit_search_fields(u)) for u in units],
            session,
        )

    async def save_groups(self, groups: Iterable[Group], known: Many[str], session: Session) -> None:
        """Insert the groups, or change those whose ids are `known`."""
        await write(self._groups, [save_group(g, changed=g.id in known) for g in groups], session)

    async def save_placements(
        self, placements: Iterable[Placement], known: Many[str], session: Session
    ) -> None:
        """Insert the placements, or change those of the members that are `known`."""
        writes = [_save(PLACEMENTS, p, changed=p.member_id in known) for p in placements]
        await write(self._placements, writes, session)


async def by_id(
    collection: Collection, codec: Codec[A], ids: Many[str], session: Session | None = None
) -> dict[str, A]:
    found = collection.find({"_id": {"$in": list(ids)}}, session=session)
    return {row["_id"]: codec.decode(row) async for row in found}


async def write(collection: Collection, writes: Sequence[Write], session: Session | None = None) -> None:
    if writes:
        await collection.bulk_write(list(writes), ordered=False, session=session)


def save_group(group: Group, *, changed: bool) -> Write:
    """The state is stored too, for queries and indexes."""
    return _save(GROUPS, group, changed=changed, state=group.state.value)


def unit_search_fields(unit: Unit) -> dict[str, Any]:
    """Fields by which a unit is found by its name: the words of all its names, and how each sounds. They are
    of the unit's `version`, by the present `RULES`."""
    words = dict.fromkeys(word for name in unit.name.values() for word in searchable_words(name))
    terms = [*words, *(SOUND + sound_key(word) for word in words)]
    return {"terms": list(dict.fromkeys(terms)), "searchable": f"{RULES}:{unit.version}"}


def _save(codec: Codec[A], aggregate: A, *, changed: bool, **derived: Any) -> Write:
    document = codec.encode(aggregate) | derived
    if not changed:
        return InsertOne(document)
    update: Document = {"$set": document}
    if gone := dict.fromkeys([key for key in codec.omitted if key not in document], ""):
        update["$unset"] = gone
    return UpdateOne({"_id": document.pop("_id")}, update)


async def _create_collections(database: Database) -> None:
    text, whole = {"bsonType": "string"}, {"bsonType": ["int", "long"], "minimum": 0}
    await create(
        database,
        "units",
        required={"level": text, "name": {"bsonType": "object", "required": ["en", "hi"]}, "version": whole},
        indexes=[IndexModel([("parent", 1), ("_id", 1)])],
    )
    await create(
        database,
        "groups",
        required={
            "unit": text,
            "kind": text,
            "ordinal": whole,
            "capacity": whole,
            "taken": whole,
            "state": {"enum": [s.value for s in GroupState]},
            "version": whole,
        },
        indexes=[
            IndexModel([("unit", 1), ("kind", 1), ("ordinal", 1)], unique=True),
            IndexModel([("unit", 1), ("_id", 1)]),
            IndexModel([("unit", 1), ("kind", 1)], partialFilterExpression={"state": GroupState.OPEN.value}),
        ],
    )
    await create(
        database,
        "placements",
        required={
            "unit": text,
            "state": {"enum": [s.value for s in PlacementState]},
            "sequence": whole,
            "member_sequence": whole,
        },
        indexes=[
            IndexModel(
                [("group_id", 1), ("_id", 1)], partialFilterExpression={"group_id": {"$type": "string"}}
            ),
            IndexModel(
                [("state", 1), ("unit", 1)],
                partialFilterExpression={"state": PlacementState.WAITING_UNIT.value},
            ),
        ],
    )


MIGRATIONS: Final = (Migration("core-0001", "units, groups, placements", _create_collections),)
