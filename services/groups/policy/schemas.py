"""HTTP schemas of the placement policy."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, Strict

from services.groups.core.levels import LevelWord
from services.groups.core.policy import Cap, Policy, Rule
from services.groups.policy.domain import Difference, Preview
from services.shared.contracts.groups import MAX_RULES
from services.shared.contracts.vocabulary import MAX_LEVELS, GroupKind
from services.shared.http.body import Body

MAX_GROUPS: Final = 1000
RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
At = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="own, above, or one of the tree's levels, as /v1/units/levels says.",
    ),
]


class RuleIn(Body):
    """A rule that gives seats in groups of a kind: all conditions must hold. `at` is where the group is, from
    the member's unit, or from that of the `role`: in the unit itself (`own`), in the unit above it, or in
    that of a level."""

    id: RuleId
    kind: GroupKind
    at: At = "own"
    gender: Literal["female", "male", "other"] | None = None
    consent: Literal["group"] | None = None
    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] | None = None


class KindIn(Body):
    """Groups of a kind: the seats of a new one, and how many a unit may have (null: any number)."""

    kind: GroupKind
    capacity: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    groups: Annotated[int, Strict(), Field(ge=1, le=MAX_GROUPS)] | None = None


class PolicyIn(Body):
    """A whole policy. `levels` are the levels of units that have groups, of those that the tree has."""

    levels: Annotated[list[LevelWord], Field(max_length=MAX_LEVELS)]
    kinds: Annotated[list[KindIn], Field(max_length=len(GroupKind))]
    rules: Annotated[list[RuleIn], Field(max_length=MAX_RULES)]


class RuleOut(BaseModel):
    """`depends` are the facts whose change may change what the rule gives."""

    id: str
    kind: str
    at: str
    gender: str | None
    consent: str | None
    role: str | None
    depends: list[str]


class PolicyKindOut(BaseModel):
    kind: str
    capacity: int
    groups: int | None


class PolicyOut(BaseModel):
    """The policy in force. Version 0 is that of the settings. `job_id` is the job that applies it to those
    who were placed by an earlier one."""

    version: int
    levels: list[str]
    kinds: list[PolicyKindOut]
    rules: list[RuleOut]
    job_id: str | None


class CountsOut(BaseModel):
    """`members` were compared. `joins`, `leaves` and `moves` are seats that are taken, given up, or
    exchanged; `waits` are members who would wait. `opens`, `fills` and `closes` are groups. `messages` is how
    many people at most are to be told: those with a seat in a group that they were not in."""

    members: int
    joins: int
    leaves: int
    moves: int
    waits: int
    opens: int
    fills: int
    closes: int
    messages: int


class PreviewOut(BaseModel):
    """The changes that a policy would make. `state` is `running` until `counts` are complete."""

    id: str
    state: Literal["running", "done"]
    base_version: int
    counts: CountsOut
    job_id: str | None
    created_at: datetime


class DifferenceOut(BaseModel):
    """One change. Of a member (`member_id`): the seat by `rule` that is given up (`leaves`) or taken
    (`joins`), by the id of its group, or why they wait. Of a group (`group_id`): `opens`, `fills` or
    `closes`."""

    member_id: str | None
    group_id: str | None
    rule: str | None
    kind: str
    unit: str
    joins: str | None
    leaves: str | None
    waits: str | None
    opens: bool
    fills: bool
    closes: bool


def policy_of(body: PolicyIn) -> Policy:
    """The policy for the tree that ships; the service gives it the levels that the tree has."""
    return Policy(
        version=0,
        levels=tuple(body.levels),
        kinds=tuple(Cap(each.kind.value, each.capacity, each.groups) for each in body.kinds),
        rules=tuple(
            Rule(rule.id, rule.kind.value, rule.at, rule.gender, rule.consent, rule.role)
            for rule in body.rules
        ),
    )


def policy_out(policy: Policy, job_id: str | None) -> dict[str, Any]:
    return {
        "version": policy.version,
        "levels": list(policy.levels),
        "kinds": [{name: getattr(cap, name) for name in PolicyKindOut.model_fields} for cap in policy.kinds],
        "rules": [
            {
                **{name: getattr(rule, name) for name in RuleIn.model_fields},
                "depends": sorted(fact.value for fact in rule.depends),
            }
            for rule in policy.rules
        ],
        "job_id": job_id,
    }


def preview_out(preview: Preview) -> dict[str, Any]:
    counts = {name: preview.counts.get(name, 0) for name in CountsOut.model_fields}
    return {
        "id": preview.id,
        "state": "done" if preview.done else "running",
        "base_version": preview.base_version,
        "counts": counts,
        "job_id": preview.job_id,
        "created_at": preview.created_at,
    }


def difference_out(difference: Difference) -> dict[str, Any]:
    return {name: getattr(difference, name) for name in DifferenceOut.model_fields}
