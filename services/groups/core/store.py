"""The collections of the groups service, and the queries that several features share.

`units {_id: code, level, parent, name{en,hi}, women_target, version, constituency?, constituency_name?,
successors?, retired_at?, terms, searchable}`: `successors` only of those retired; `terms` by `unit_terms`
`groups {_id, unit, kind, ordinal, name{en,hi}, capacity, taken, state, sealed_link?, link_lost?, version}`,
and the counts of rosters, `observed?`; `invite_link` is set by processes of release 0.1.0 only
`placements {_id: member id, member_sequence, sequence, unit, group_id, kind, ordinal, state, since}`, and
where there is something to say `group_unit, policy, facts{}, seats[{rule, kind, unit, state, group_id, ...}]`
`policies {_id: version, levels, kinds, rules, tree, at, job_id, applied_at?}`: each that was ever in force

What is new is inserted, what changes is `$set`: an upsert costs MongoDB several times as much as an insert.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from pymongo import DESCENDING, IndexModel, InsertOne, UpdateOne

from services.groups.core.domain import GENERAL, Group, GroupState, Placement, PlacementState, Unit
from services.groups.core.levels import SHIPPED, TREE
from services.groups.core.policy import Policy
from services.shared.contracts.successions import standing_for
from services.shared.contracts.vocabulary import MAX_LEVELS
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
GROUPS: Final = Codec(Group, id_field="id", omit_none=["link_lost", "retired", "shrinks_to", "sealed_link"])
PLACEMENTS: Final = Codec(
    Placement, id_field="member_id", omit_none=["group_unit", "meant", "policy", "facts", "seats"]
)
POLICIES: Final = Codec(Policy, id_field="version")


class CoreStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def units(self, codes: Many[str], session: Session | None = None) -> dict[str, Unit]:
        return await by_id(self._units, UNITS, codes, session)

    async def levels_used(self, session: Session | None = None) -> dict[int, str]:
        """The level of the units at each depth that has any."""
        used: dict[int, str] = {}
        for depth in range(1, MAX_LEVELS + 1):
            code = {"$regex": f"^[^-]+(-[^-]+){{{depth - 1}}}$"}
            if row := await self._units.find_one({"_id": code}, {"level": 1}, session=session):
                used[depth] = row["level"]
        return used

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


class PolicyVersions:
    def __init__(self, database: Database) -> None:
        self._policies = database["policies"]
        self._tree = database["tree"]

    async def levels(self, session: Session | None = None) -> tuple[str, ...]:
        """The levels of the tree, from the root."""
        return await self.levels_set(session) or SHIPPED

    async def levels_set(self, session: Session | None = None) -> tuple[str, ...] | None:
        """The levels that somebody has set; None if nobody has."""
        row = await self._tree.find_one({"_id": TREE}, {"levels": 1}, session=session)
        return tuple(row["levels"]) if row and "levels" in row else None

    async def hold_levels(self, session: Session) -> tuple[str, ...]:
        """The same, by a write that conflicts with a change of the levels."""
        fresh = {"version": 0, "levels": list(SHIPPED), "levels_version": 1}
        update = {"$inc": {"held": 1}, "$setOnInsert": fresh}
        await self._tree.update_one({"_id": TREE}, update, upsert=True, session=session)
        return await self.levels(session)

    async def set_levels(self, levels: Sequence[str]) -> None:
        """Write the levels that a rebuild has found."""
        update = {"$set": {"levels": list(levels)}, "$setOnInsert": {"version": 0, "levels_version": 1}}
        await self._tree.update_one({"_id": TREE}, update, upsert=True)

    async def newest(self, session: Session | None = None) -> Policy | None:
        """The policy that was put in force last; None if none ever was."""
        async for row in self._policies.find({}, session=session).sort("_id", DESCENDING).limit(1):
            return POLICIES.decode(row)
        return None

    async def save(self, policy: Policy, session: Session) -> None:
        """Write a policy that a rebuild has found in the log."""
        row = POLICIES.encode(policy)
        await self._policies.replace_one({"_id": row["_id"]}, row, upsert=True, session=session)


def seated_in(group: Group) -> Document:
    """A query for the placements of members who have a seat in the group."""
    return {"group_id" if group.kind == GENERAL else "seats.group_id": group.id}


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


async def _seats_by_rule(database: Database) -> None:
    """The policies, and an index of the seats that members have by other rules than the general one."""
    await create(database, "policies", required={"rules": {"bsonType": "array"}})
    seated = {"seats.group_id": {"$type": "string"}}
    by_group = IndexModel([("seats.group_id", 1), ("_id", 1)], partialFilterExpression=seated)
    await database["placements"].create_indexes([by_group])


MIGRATIONS: Final = (
    Migration("core-0001", "units, groups, placements", _create_collections),
    Migration("core-0002", "policies, seats by rule", _seats_by_rule),
)
