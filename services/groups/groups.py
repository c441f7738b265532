"""Changing a group: its invite link, its capacity, its name."""

from __future__ import annotations

from typing import Any

from services.groups.domain import GroupState
from services.groups.store import Store
from services.shared.clock import Clock
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupFilled, GroupInviteChanged, GroupUpdated
from services.shared.database import Document
from services.shared.http.auth import Identity
from services.shared.http.etag import precondition_failed
from services.shared.http.problem import FieldError, invalid, not_found
from services.shared.messaging import Origin, Outbox, UnitOfWork


class Groups:
    def __init__(self, store: Store, outbox: Outbox, clock: Clock) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock

    async def change(
        self, id_: str, changes: dict[str, Any], expected: int, caller: Identity, origin: Origin
    ) -> Document:
        """Apply a merge patch to version `expected`; the group as it is now.

        Raises: `Problem` 404, 412, or 422 when fewer seats are asked for than are taken.
        """

        async def body(work: UnitOfWork) -> Document:
            group = await self._store.group(id_, work.session)
            if group is None or not caller.can_access(group["unit"]):
                raise not_found()
            if group["version"] != expected:
                raise precondition_failed()
            changed, events = patched(group, changes)
            if not events:
                return group
            for event in events:
                changed["version"] += 1
                work.stage(event, changed["version"], origin)
            changed["updated_at"] = self._clock.now()
            await self._store.replace_group(changed, work.session)
            return changed

        return await self._outbox.transact(body)


def patched(group: Document, changes: dict[str, Any]) -> tuple[Document, list[Event]]:
    """The group after the patch and the events that tell of it; none when nothing changes.

    Raises: `Problem` 422 for a capacity below the seats taken.
    """
    after = {**group, "name": {**group["name"], **{k: v for k, v in changes.get("name", {}).items() if v}}}
    after["capacity"] = changes.get("capacity", group["capacity"])
    if after["capacity"] < group["taken"]:
        raise invalid([FieldError("/capacity", "is below the number of seats taken")])
    full = after["taken"] >= after["capacity"]
    after["state"] = (GroupState.FULL if full else GroupState.OPEN).value
    if "invite_link" in changes:
        after["invite_link"] = changes["invite_link"]
        after.pop("link_lost", None)
    about = {"group_id": group["_id"], "unit": group["unit"]}
    shape = about | {"kind": group["kind"], "ordinal": group["ordinal"], "capacity": after["capacity"]}
    events: list[Event] = []
    if after["name"] != group["name"] or after["capacity"] != group["capacity"]:
        events.append(GroupUpdated(**shape))
    if after["invite_link"] != group["invite_link"]:
        events.append(GroupInviteChanged(**about, invite_ready=after["invite_link"] is not None))
    if full and group["state"] != GroupState.FULL:
        events.append(GroupFilled(**shape))
    return after, events
