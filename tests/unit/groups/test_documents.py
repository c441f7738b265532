"""Documents as every release writes and reads them: processes of two releases share one database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pymongo import InsertOne, UpdateOne

from services.groups.core.domain import Group, Placement, PlacementState, Unit
from services.groups.core.store import GROUPS, PLACEMENTS, UNITS, save_group
from services.shared.database import Document

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NAME = {"en": "Saran", "hi": "सारण"}

UNIT: Document = {
    "_id": "BR-SARAN",
    "level": "district",
    "parent": "BR",
    "name": NAME,
    "women_target": 0.4,
    "version": 3,
}
GROUP: Document = {
    "_id": "g1",
    "unit": "BR-SARAN",
    "kind": "general",
    "ordinal": 2,
    "name": NAME,
    "capacity": 5,
    "taken": 5,
    "state": "full",
    "invite_link": "https://example.org/join",
    "admins": 0,
    "version": 4,
    "created_at": NOW,
    "updated_at": NOW,
}
PLACEMENT: Document = {
    "_id": "m1",
    "member_sequence": 2,
    "sequence": 3,
    "unit": "BR-SARAN",
    "group_id": None,
    "kind": "general",
    "ordinal": None,
    "state": "waiting_unit",
    "since": NOW,
}


def written(write: Any) -> Document:
    """The document or the update of a write, with its type."""
    kind = "insert" if isinstance(write, InsertOne) else "update"
    return {"kind": kind, "what": write._doc}


def test_units_and_placements() -> None:
    unit, placement = UNITS.decode(UNIT), PLACEMENTS.decode(PLACEMENT)
    assert unit == Unit("BR-SARAN", "district", "BR", NAME, 0.4, 3)
    assert placement == Placement(
        "m1", 2, 3, "BR-SARAN", None, "general", None, PlacementState.WAITING_UNIT, NOW
    )
    assert (UNITS.encode(unit), PLACEMENTS.encode(placement)) == (UNIT, PLACEMENT)


def test_a_group_is_inserted_with_its_state() -> None:
    group = GROUPS.decode(GROUP)
    assert written(save_group(group, changed=False)) == {"kind": "insert", "what": GROUP}


def test_a_link_that_was_lost_is_marked_until_it_is_set_again() -> None:
    lost: Group = GROUPS.decode({**GROUP, "invite_link": None, "link_lost": True})
    assert lost.link_lost
    fields = {key: value for key, value in GROUP.items() if key != "_id"}
    found = save_group(replace(lost, invite_link=GROUP["invite_link"], link_lost=None), changed=True)
    assert isinstance(found, UpdateOne)
    assert written(found) == {
        "kind": "update",
        "what": {
            "$set": fields,
            "$unset": {"link_lost": "", "retired": "", "shrinks_to": "", "sealed_link": ""},
        },
    }
