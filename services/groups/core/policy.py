"""The placement policy: which seats a member wants, as rules that are data. Pure.

The wanted set - rule, kind and unit of each seat - is a function of the member's newest facts and the policy
alone, so the order of events cannot matter. Each rule says which facts it depends on: an event that changes
none of them need not evaluate it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

from services.groups.core.domain import GENERAL, Facts, RoleIn
from services.groups.core.levels import SHIPPED
from services.shared.contracts.base import Numbered
from services.shared.contracts.groups import PolicyApplied, PolicyCap, PolicyRule
from services.shared.contracts.vocabulary import Gender, GroupKind, Purpose, lineage

DRIFT: Final = ("missing", "unwanted", "elsewhere", "behind", "miscounted", "over_capacity")
"""How a placement or group may differ from the policy: a seat that is wanted and not there, there and not
wanted, or in another unit; a member decided on by an earlier policy; a group whose seats taken are not those
of its members, or more than it has."""
OWN: Final = "own"
ABOVE: Final = "above"
BY_PLACE: Final = (OWN, ABOVE)
"""Words for where the group of a rule may be, seen from the unit of the member or role; any other word is a
level of the tree."""


class Fact(StrEnum):
    """A thing that a rule may depend on."""

    UNIT = "unit"
    STATUS = "status"
    OWN_NUMBER = "own_number"
    GENDER = "gender"
    CONSENT = "consent"
    ROLES = "roles"


PLACE: Final = frozenset({Fact.UNIT, Fact.STATUS, Fact.OWN_NUMBER})
"""The facts that one statement has: whether the member is placed at all, and from which unit."""


class Want(NamedTuple):
    """A seat that a member is to have."""

    kind: str
    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Gives at most one seat, in a group of `kind`, to each member who meets all conditions.

    `at` is where the group is, from the member's unit or, with `role`, from that of the role: in the unit
    itself, in the one above, or in that of a level. If the level of the place has no groups, it is the
    nearest one above that has. Of several units in which a member holds the role, the first by code counts.
    """

    id: str
    kind: str
    at: str = OWN
    gender: str | None = None
    consent: str | None = None
    role: str | None = None

    @property
    def depends(self) -> frozenset[Fact]:
        """The facts whose change may change what the rule gives."""
        conditions = {Fact.GENDER: self.gender, Fact.CONSENT: self.consent, Fact.ROLES: self.role}
        return PLACE | {fact for fact, condition in conditions.items() if condition is not None}


@dataclass(frozen=True, slots=True)
class Cap:
    """`capacity` is in seats of a new group; `groups` is how many groups of the kind a unit may have at once,
    None for any number."""

    kind: str
    capacity: int
    groups: int | None = None


@dataclass(frozen=True)
class Policy:
    """The rules in force. Version 0 is the policy of the settings, which is in force until another is.

    `levels` are those that have groups, of the levels of the `tree` as they were when the policy was put in
    force. What it gives does not depend on how the tree's levels are now.
    """

    version: int
    levels: tuple[str, ...]
    kinds: tuple[Cap, ...]
    rules: tuple[Rule, ...]
    tree: tuple[str, ...] = SHIPPED

    @cached_property
    def by_id(self) -> Mapping[str, Rule]:
        return {rule.id: rule for rule in self.rules}

    @cached_property
    def caps(self) -> Mapping[str, Cap]:
        return {cap.kind: cap for cap in self.kinds}

    @cached_property
    def dependent(self) -> Mapping[Fact, frozenset[str]]:
        """The ids of the rules that depend on each fact."""
        return {fact: frozenset(rule.id for rule in self.rules if fact in rule.depends) for fact in Fact}

    @cached_property
    def capped(self) -> frozenset[str]:
        """The kinds of which a unit may have only so many groups."""
        return frozenset(cap.kind for cap in self.kinds if cap.groups is not None)

    @cached_property
    def every_rule(self) -> frozenset[str]:
        return frozenset(self.by_id)

    @cached_property
    def _reachable(self) -> frozenset[tuple[str, int]]:
        """The (kind, depth of unit) of groups in which a rule may give a seat."""
        found = [(rule.kind, self._place(rule, code)) for rule in self.rules for code in self.every_depth]
        return frozenset((kind, code.count("-")) for kind, code in found if code is not None)

    @cached_property
    def every_depth(self) -> tuple[str, ...]:
        """The code of a unit of each level of the tree."""
        return tuple("-".join(["X"] * depth) for depth in range(1, len(self.tree) + 1))

    def affected(self, changed: Collection[Fact]) -> frozenset[str]:
        """The ids of the rules that a change of these facts may concern."""
        if not PLACE.isdisjoint(changed):
            return self.every_rule
        return frozenset().union(*(self.dependent[fact] for fact in changed))

    def uses(self, kind: str, unit: str) -> bool:
        """Whether a rule may give a seat in a group of that kind in that unit."""
        return (kind, unit.count("-")) in self._reachable

    def wants(self, rule: Rule, unit: str, facts: Facts, *, is_out: bool) -> Want | None:
        """The seat that the rule gives to a member of `unit`; None for no seat.

        Ask only about a rule for which `is_decidable`.
        """
        if is_out or (rule.gender is not None and facts.gender != rule.gender):
            return None
        if rule.consent is not None and not facts.asked:
            return None
        if rule.role is None:
            at = self._place(rule, unit)
            return Want(rule.kind, at) if at else None
        units = sorted(role.unit for role in facts.roles or () if role.role == rule.role)
        places = [place for held_in in units if (place := self._place(rule, held_in))]
        return Want(rule.kind, places[0]) if places else None

    def wanted(self, unit: str, facts: Facts, *, is_out: bool) -> dict[str, Want]:
        """The whole wanted set, by rule, of a member whose facts are all known."""
        found = {rule.id: self.wants(rule, unit, facts, is_out=is_out) for rule in self.rules}
        return {rule: want for rule, want in found.items() if want is not None}

    def _place(self, rule: Rule, unit: str) -> str | None:
        if rule.at == OWN and unit.count("-") in self._depths:
            return unit
        line = lineage(unit)
        if rule.at == OWN:
            upto = len(line)
        elif rule.at == ABOVE:
            upto = max(1, len(line) - 1)
        else:
            upto = self.tree.index(rule.at) + 1 if rule.at in self.tree else len(line) + 1
            if upto > len(line):
                return None
        return next((code for code in reversed(line[:upto]) if self._has_groups(code)), None)

    def _has_groups(self, code: str) -> bool:
        """A unit deeper than the levels that the policy knows has, once it is known."""
        depth = code.count("-")
        return depth >= len(self.tree) or depth in self._depths

    @cached_property
    def _depths(self) -> frozenset[int]:
        return frozenset(self.tree.index(level) for level in self.levels if level in self.tree)


def is_decidable(rule: Rule, facts: Facts, *, is_out: bool) -> bool:
    """Whether all that the rule asks is known. Until then a member keeps what they have by it: what is not
    known is not taken for a no."""
    if is_out or facts.at:
        return True
    return not (
        (rule.gender is not None and facts.gender_at is None)
        or (rule.consent is not None and facts.asked_at is None)
        or (rule.role is not None and facts.roles_at is None)
    )


def default_policy(capacity: int, tree: tuple[str, ...] = SHIPPED) -> Policy:
    """A seat in the general group of one's own unit, and nothing else."""
    return Policy(
        version=0,
        levels=tree,
        kinds=(Cap(GENERAL, capacity),),
        rules=(Rule(GENERAL, GENERAL),),
        tree=tree,
    )


def levels_it_names(policy: Policy, levels: Sequence[str]) -> list[str]:
    """The levels that a policy was put in force with and that would be at another depth in a tree of these
    levels, or in none."""
    named = {*policy.levels, *(rule.at for rule in policy.rules if rule.at not in BY_PLACE)}
    places = {level: depth for depth, level in enumerate(levels)}
    return [level for depth, level in enumerate(policy.tree) if level in named and places.get(level) != depth]


def example_rules() -> tuple[Rule, ...]:
    """The rules that an operator would most likely switch on."""
    return (
        Rule(GENERAL, GENERAL),
        Rule("women", GroupKind.WOMEN.value, "block", Gender.FEMALE.value, Purpose.GROUP.value),
        Rule("it_cell", GroupKind.IT_CELL.value, "district", role="it_cell"),
        Rule("coordinators", GroupKind.COORDINATORS.value, ABOVE, role="coordinator"),
    )


def applied(policy: Policy) -> Numbered:
    event = PolicyApplied(
        levels=policy.levels,
        kinds=tuple(PolicyCap(kind=c.kind, capacity=c.capacity, groups=c.groups) for c in policy.kinds),
        rules=tuple(
            PolicyRule(id=r.id, kind=r.kind, at=r.at, gender=r.gender, consent=r.consent, role=r.role)
            for r in policy.rules
        ),
        tree=policy.tree,
    )
    return Numbered(event, policy.version)


class Fault(NamedTuple):
    """A field of a policy that cannot be accepted, by its path."""

    path: str
    detail: str


def faults(policy: Policy) -> list[Fault]:
    """The mistakes in the policy by itself: the words and sizes of its fields are right already."""
    found = [*_repeated("rules", "id", [rule.id for rule in policy.rules])]
    found += _repeated("kinds", "kind", [cap.kind for cap in policy.kinds])
    found += _repeated("levels", "", list(policy.levels))
    unknown = [at for at, level in enumerate(policy.levels) if level not in policy.tree]
    found += [Fault(f"/levels/{at}", "is no level of the tree") for at in unknown]
    for at, rule in enumerate(policy.rules):
        path = f"/rules/{at}"
        if rule.kind not in policy.caps:
            found.append(Fault(f"{path}/kind", "has no entry in kinds, which says how large its groups are"))
        found += [Fault(path + field, detail) for field, detail in _rule_faults(rule)]
        if rule.at not in (*BY_PLACE, *policy.tree):
            found.append(Fault(f"{path}/at", "is neither own, above nor a level of the tree"))
        elif rule.at not in (*BY_PLACE, *policy.levels):
            found.append(Fault(f"{path}/at", "is a level that has no groups"))
    general = [rule for rule in policy.rules if rule.id == GENERAL]
    if not general:
        found.append(Fault("/rules", "need the rule general: without it nobody would have a seat"))
    elif not any(policy.wants(general[0], code, Facts(), is_out=False) for code in policy.every_depth):
        found.append(Fault("/levels", "leave nobody a general group"))
    return found


def _rule_faults(rule: Rule) -> list[tuple[str, str]]:
    """Fields of a rule that do not go with its kind, and why."""
    conditions = {"gender": rule.gender, "consent": rule.consent, "role": rule.role}
    if (rule.id == GENERAL) != (rule.kind == GENERAL):
        return [("/kind", "general groups are for the rule general, and it for them")]
    if rule.kind == GENERAL:
        return [(f"/{name}", "everybody has a general seat") for name, value in conditions.items() if value]
    if rule.kind == GroupKind.WOMEN:
        asked = rule.gender == Gender.FEMALE and rule.consent == Purpose.GROUP
        detail = "a women's group is for gender female with consent group: women who asked for it"
        return [] if asked else [("/gender", detail)]
    return [] if rule.role else [("/role", "a group of this kind is for the holders of a role")]


def _repeated(where: str, field: str, values: list[str]) -> list[Fault]:
    order = sorted(range(len(values)), key=lambda at: (values[at], at))
    again = [at for before, at in pairwise(order) if values[before] == values[at]]
    return [
        Fault(f"/{where}/{at}" + (f"/{field}" if field else ""), "is there before") for at in sorted(again)
    ]


def role_facts(roles: Collection[RoleIn]) -> tuple[RoleIn, ...] | None:
    """Roles as facts keep them: in order, each once, None for none."""
    return tuple(sorted(set(roles), key=lambda role: (role.role, role.unit))) or None
