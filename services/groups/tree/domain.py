"""The tree's rules: what writing a unit changes, and in which order units are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.groups.core.domain import Group, Unit, group_name, group_updated, unit_upserted
from services.shared.contracts.base import Numbered, Step

AS_KNOWN: Final = 0
"""The constituency of a wanted unit of which nothing is said: it stays as it is."""
MAX_CHANGED_CODES: Final = 100
"""How many codes the answer to an import lists."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Units created and updated, by code, and the number that were as wanted already.

    The result of a dry run says what an import would do.
    """

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: int = 0

    @property
    def changed_codes(self) -> tuple[str, ...]:
        """The first of the changed codes, as an answer lists them."""
        return (self.created + self.updated)[:MAX_CHANGED_CODES]

    def __add__(self, other: ImportResult) -> ImportResult:
        return ImportResult(
            self.created + other.created, self.updated + other.updated, self.unchanged + other.unchanged
        )


def upserted(before: Unit | None, wanted: Unit) -> Step[Unit]:
    """Create the unit, or change it to what is wanted; the version of `wanted` does not matter."""
    if wanted.constituency == AS_KNOWN:
        number, name = (before.constituency, before.constituency_name) if before else (None, None)
        wanted = replace(wanted, constituency=number, constituency_name=name)
    if before is not None and replace(wanted, version=before.version) == before:
        return Step(before)
    after = replace(wanted, version=before.version + 1 if before else 1)
    return Step(after, (Numbered(unit_upserted(after), after.version),))


def renamed(group: Group, before: Unit, after: Unit, now: datetime) -> Step[Group]:
    """The group of a unit that was renamed: its name follows in each language in which nobody changed it."""
    old, new = (group_name(unit.name, group.ordinal, group.kind) for unit in (before, after))
    name = {word: new[word] if text == old.get(word) else text for word, text in group.name.items()}
    if name == group.name:
        return Step(group)
    changed = replace(group, name=name, version=group.version + 1, updated_at=now)
    return Step(changed, (Numbered(group_updated(changed), changed.version),))


def result_of(steps: Sequence[Step[Unit]]) -> ImportResult:
    changed = [step.state for step in steps if step.events]
    return ImportResult(
        created=tuple([unit.code for unit in changed if unit.version == 1]),
        updated=tuple([unit.code for unit in changed if unit.version > 1]),
        unchanged=len(steps) - len(changed),
    )


def parents_first(codes: Sequence[str]) -> list[int]:
    """The order of writing, as indexes: the same for the same units, so that a job goes on where it was."""
    order = sorted(range(len(codes)), key=codes.__getitem__)
    order.sort(key=lambda n: codes[n].count("-"))  # each of the two sorts holds the interpreter more shortly
    return order
