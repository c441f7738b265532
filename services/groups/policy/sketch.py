"""A sketch: what the job that applies a policy would do, kept in memory over the stores that it reads.

It holds the groups that are opened or changed and the members whose place in a waiting list has changed,
which is little beside all placements: those are read once, in their order, and let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Many
from dataclasses import replace

from services.groups.core.core import Core
from services.groups.core.domain import Group, GroupState, Placement, PlacementState
from services.groups.core.policy import Policy
from services.groups.core.seating.domain import Place, Seating
from services.groups.core.seating.drafts import Review
from services.groups.core.seating.group_seats import GroupSeats, Numbering, Pair
from services.groups.core.seating.service import ChangeRequest, queued
from services.groups.core.seating.store import QUEUE, SeatStore
from services.groups.policy.domain import Difference, closable, counted, differences, merged
from services.groups.policy.store import PolicyStore
from services.shared.database import Database, Session
from services.shared.messaging import Origin


class SketchedSeats(SeatStore):
    """The seats as they would be."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._sketched: dict[str, GroupSeats] = {}
        self._of_pair: dict[Pair, dict[str, None]] = {}
        """The sketched groups; in the store, one of them may be full that has room again."""
        self._created: Counter[Pair] = Counter()
        self._members: dict[str, Placement] = {}
        self._queues: dict[Pair, set[Place]] = {}

    async def seats(self, pairs: Many[Pair], left: Many[str], session: Session | None) -> list[GroupSeats]:
        found = {group.id: group for group in await super().seats(pairs, left, session)}
        own = [id_ for pair in pairs for id_ in self._of_pair.get(pair, ())]
        for id_ in (*found, *own, *left):
            if id_ in self._sketched:
                found[id_] = self._sketched[id_]
        return [g for g in found.values() if g.state is GroupState.OPEN or g.id in left]

    async def numbering(self, pairs: Many[Pair], session: Session | None) -> dict[Pair, Numbering]:
        found = await super().numbering(pairs, session)
        for pair in pairs:
            if new := self._created[pair]:
                last, live = found.get(pair, Numbering())
                found[pair] = Numbering(last + new, live + new)
        return found

    async def queues(
        self, pairs: Many[Pair], session: Session | None = None, *, passing: Many[str] = ()
    ) -> dict[Pair, list[Place]]:
        changed = [f"{id_}/{seat.rule}" for id_, each in self._members.items() for seat in each.held]
        found = await super().queues(pairs, session, passing=changed)
        for pair in pairs:
            if mine := self._queues.get(pair):
                found[pair] = sorted([*found.get(pair, ()), *mine])[:QUEUE]
        return found

    async def placements(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Placement]:
        sketched = self.changed_of(member_ids)
        return await super().placements([id_ for id_ in member_ids if id_ not in sketched]) | sketched

    def changed_of(self, member_ids: Many[str]) -> dict[str, Placement]:
        """The placements that have changed already: of members who got a seat that they waited for."""
        return {id_: self._members[id_] for id_ in member_ids if id_ in self._members}

    def keep(self, seating: Seating, before: dict[str, Placement]) -> None:
        for new in seating.created:
            shape = (new.id, new.unit, new.kind, new.ordinal, new.capacity, new.taken, new.version)
            self._sketch(GroupSeats(*shape))
            self._created[new.unit, new.kind] += 1
        for group in seating.changed:
            self._sketch(group)
        for step in seating.steps:
            old, new_places = before.get(step.state.member_id), queued(step.state)
            old_places = queued(old) if old else ()
            if not (old_places or new_places):
                continue
            member = step.state.member_id
            self._members[member] = step.state
            for seat in old_places:
                self._queues.get((seat.unit, seat.kind), set()).discard((seat.since, member, seat.rule))
            for seat in new_places:
                if seat.state is PlacementState.WAITING_SEAT:
                    queue = self._queues.setdefault((seat.unit, seat.kind), set())
                    queue.add((seat.since, member, seat.rule))

    def _sketch(self, group: GroupSeats) -> None:
        self._sketched[group.id] = group
        self._of_pair.setdefault((group.unit, group.kind), {})[group.id] = None

    def after(self, group: Group) -> Group:
        """The group with the seats that would be taken."""
        sketched = self._sketched.get(group.id)
        return replace(group, taken=sketched.taken) if sketched else group


class Sketch:
    """One preview while it is made, batch by batch as the job works."""

    def __init__(self, core: Core, store: PolicyStore, policy: Policy, base_version: int) -> None:
        self._core = core
        self._store = store
        self._policy = replace(policy, version=base_version + 1)
        self._seats = SketchedSeats(core.runtime.database)
        self._seating = core.seating_in(self._seats)
        self._lines: dict[str, Difference] = {}
        """The changes of groups, and of members who would wait: these may still change."""
        self._members_done = self._groups_done = False
        self._after = ""
        self.counts: Counter[str] = Counter()

    @property
    def done(self) -> bool:
        return self._groups_done

    async def next(self, limit: int) -> list[Difference]:
        """The changes of the next batch; an earlier one may be changed by a later one of the same key."""
        found = await self._groups(limit) if self._members_done else await self._members(limit)
        changed: dict[str, Difference] = {}
        for each in found:
            before = changed.get(each.key) or self._lines.get(each.key)
            changed[each.key] = merged(before, each) if before is not None else each
        for key, each in changed.items():
            if (before := self._lines.get(key)) is not None:
                self.counts.subtract(counted(before))
            self.counts.update(counted(each))
            if each.waits or each.group_id or key in self._lines:
                self._lines[key] = each
        return list(changed.values())

    async def _members(self, limit: int) -> list[Difference]:
        placements = await self._store.placements_after(self._after, limit)
        if len(placements) < limit:
            self._members_done, self._after = True, ""
        else:
            self._after = placements[-1].member_id
        self.counts["members"] += len(placements)
        origin = Origin.here()
        requests = [ChangeRequest(Review(each.member_id), origin) for each in placements]
        known = {each.member_id: each for each in placements}
        known |= self._seats.changed_of(known)
        decided = await self._seating.decide(requests, known, self._policy, None)
        if decided is None:
            return []
        self._seats.keep(decided.seating, dict(decided.before))
        return list(differences(decided.seating.steps))

    async def _groups(self, limit: int) -> list[Difference]:
        groups = await self._store.groups_after(self._after, limit)
        if len(groups) < limit:
            self._groups_done = True
        else:
            self._after = groups[-1].id
        sketched = [self._seats.after(group) for group in groups]
        return [
            Difference(group.kind, group.unit, group_id=group.id, closes=True)
            for group in sketched
            if closable(group, self._policy)
        ]
