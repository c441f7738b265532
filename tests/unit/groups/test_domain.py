from __future__ import annotations

from collections import Counter
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from services.groups.domain import (
    Change,
    Group,
    GroupState,
    Placement,
    PlacementState,
    Seating,
    fresh,
    group_name,
)


def seating(capacity: int, groups: list[Group] | None = None) -> Seating:
    ids = count(100)
    known = {g.id: g for g in groups or []}
    last: dict[str, int] = {}
    for g in known.values():
        last[g.unit] = max(last.get(g.unit, 0), g.ordinal)
    return Seating(known, last, capacity, lambda: f"g{next(ids)}")


moves = st.lists(st.one_of(st.just("take"), st.integers(0, 50)), max_size=120)


@given(st.integers(1, 7), moves)
def test_seats_taken_are_members_seated_and_never_exceed_capacity(
    capacity: int, steps: list[str | int]
) -> None:
    """Any sequence of joins ("take") and leaves (the n-th seated member goes)."""
    hall = seating(capacity)
    seated: list[str] = []
    for step in steps:
        if step == "take":
            lowest_free = min(
                (g.ordinal for g in hall.groups.values() if g.state is GroupState.OPEN),
                default=len(hall.groups) + 1,
            )
            group = hall.take("BR")
            assert group.ordinal == lowest_free
            seated.append(group.id)
        elif seated:
            hall.release(seated.pop(int(step) % len(seated)))
        assert all(0 <= g.taken <= capacity for g in hall.groups.values())
        assert Counter(seated) == Counter({g.id: g.taken for g in hall.groups.values() if g.taken})
    ordinals = sorted(g.ordinal for g in hall.groups.values())
    assert ordinals == list(range(1, len(ordinals) + 1))


def test_units_do_not_share_groups() -> None:
    hall = seating(2)
    groups = [hall.take(unit) for unit in ("BR-A", "BR-B", "BR-A", "BR-A")]
    assert [(g.unit, g.ordinal) for g in groups] == [("BR-A", 1), ("BR-B", 1), ("BR-A", 1), ("BR-A", 2)]


def test_a_group_over_capacity_is_full_until_enough_have_left() -> None:
    """Its capacity was lowered by hand in the database: nobody is thrown out, nobody comes in."""
    hall = seating(9, [Group("g1", "BR", "general", 1, capacity=2, taken=4)])
    assert hall.take("BR").ordinal == 2
    hall.release("g1")
    hall.release("g1")
    assert hall.groups["g1"].state is GroupState.FULL
    hall.release("g1")
    assert hall.take("BR").id == "g1"


def test_only_newer_changes_are_fresh() -> None:
    known = {"m": Placement("m", 3, "BR", PlacementState.ASSIGNED)}
    changes = [Change("m", 3, "BR"), Change("m", 4, "BR"), Change("n", 1, "BR")]
    assert fresh(changes, known) == changes[1:]


def test_names_in_both_scripts() -> None:
    unit = {"en": "Saran", "hi": "सारण"}
    assert group_name(unit, 1) == {"en": "Saran group", "hi": "सारण समूह"}
    assert group_name(unit, 2) == {"en": "Saran group 2", "hi": "सारण समूह 2"}
