"""The identity that a request or job acts for, and the units that it may access.

A route takes it from the caller's token; a job keeps the identity of the request that started it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.shared.contracts.vocabulary import in_subtree
from services.shared.errors import NotFoundError

ALL_UNITS: Final = "*"


@dataclass(frozen=True, slots=True)
class Identity:
    """`unit` is the root of the subtree that the identity may access: `*` is all units, None is no unit."""

    subject: str
    scopes: frozenset[str]
    unit: str | None

    def has_scope(self, scope: str) -> bool:
        """Whether `scope` was granted, directly or by a wildcard: `groups:*` grants `groups:read`."""
        return scope in self.scopes or f"{scope.partition(':')[0]}:*" in self.scopes

    def can_access(self, unit: str) -> bool:
        if self.unit is None:
            return False
        return self.unit == ALL_UNITS or in_subtree(unit, self.unit)

    def check_access(self, unit: str) -> None:
        """Raises: `NotFoundError` for a unit outside the subtree, as if the unit did not exist."""
        if not self.can_access(unit):
            raise NotFoundError

    def check_all_units(self) -> None:
        """Raises: `NotFoundError` unless all units are accessible: nobody else is told that there is
        nothing."""
        if self.unit != ALL_UNITS:
            raise NotFoundError

    def accessible_root(self, unit: str | None) -> str | None:
        """The subtree that a listing covers: `unit` if given, else all accessible units (None means no
        limit).

        Raises: `NotFoundError` for a unit outside the subtree, or when the identity may access no unit.
        """
        if unit is not None:
            self.check_access(unit)
            return unit
        if self.unit is None:
            raise NotFoundError
        return None if self.unit == ALL_UNITS else self.unit
