"""The books: every service's count of the same members, and whether the counts agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted
from infra.local.demo.gateways import Gateway, Record, reasons
from infra.local.demo.latency import Sample, waits
from infra.local.demo.lines import Line

CONSUMERS = ("groups", "notifications", "analytics")


@dataclass(frozen=True)
class Pace:
    """Durations of the run in seconds; `settled_seconds` is from the first POST of the rush until nothing
    moved."""

    rushed: int
    rush_seconds: float
    settled_seconds: float
    walked: Sequence[Accepted]
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Books:
    lines: Sequence[Line]
    reasons: Mapping[str, int]
    """Number of suppressed welcomes by reason; by gateways, of all messages that were not sent."""
    fullest: Sequence[Mapping[str, Any]]
    """Groups with the most members, fullest first."""
    districts: Sequence[Mapping[str, Any]]
    """Districts with the most members, from coverage."""
    women: Mapping[str, Any]
    """The women connected, from inclusion."""
    covered: Mapping[str, Any]
    """How many districts are covered, from coverage."""
    next_units: Sequence[Mapping[str, Any]]
    """The units where the next effort gains most."""
    latencies: Mapping[str, Sequence[float]]
    """Seconds from the accepted POST to each station."""
    pace: Pace
    gateways: Sequence[Gateway] = ()

    @property
    def balanced(self) -> bool:
        return all(line.balances for line in self.lines)

    @classmethod
    async def read(
        cls, api: Api, *, asked: int, answered: int, pace: Pace, record: Record | None = None
    ) -> Books:
        """`record` is the gateways', if messages go by gateways."""
        members = [m async for m in api.pages("members", "/v1/members", status="active")]
        groups = [g async for g in api.pages("groups", "/v1/groups")]
        notes = [n async for n in api.pages("notifications", "/v1/notifications")]
        welcomes = [n for n in notes if n["template"] == "welcome"]
        others = [n for n in notes if n["template"] != "welcome"]
        overview = await api.get("analytics", "/v1/overview")
        coverage = await api.get("analytics", "/v1/coverage", level="district", limit=500)
        women = await api.get("analytics", "/v1/inclusion")
        next_units = await api.get("analytics", "/v1/inclusion/next", limit=3)
        female = sum(member["gender"] == "female" for member in members)
        dead = {name: await _dead_letters(api, name) for name in CONSUMERS}
        return cls(
            lines=[
                Line(f"answered, of {asked:,} asked", {"members": answered, "asked": asked}),
                *balance(
                    members,
                    groups,
                    welcomes,
                    overview,
                    others=others,
                    women=True,
                    by_gateways=record is not None,
                ),
                Line(
                    "women registered",
                    {"members": female, "analytics": women["funnel"]["registered"]},
                ),
                *(record.lines(notes, members) if record else ()),
                Line("dead letters, which must be none", {**dead, "none": 0}),
            ],
            reasons=reasons(notes if record else [n for n in welcomes if n["state"] == "suppressed"]),
            fullest=sorted(groups, key=lambda g: -g["members"])[:5],
            districts=sorted(coverage["items"], key=lambda d: -d["members"])[:5],
            women=women,
            covered=coverage["summary"],
            next_units=next_units["items"],
            latencies=_latencies(pace, welcomes),
            pace=pace,
            gateways=record.gateways if record else (),
        )


def balance(
    members: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    welcomes: Sequence[Mapping[str, Any]],
    overview: Mapping[str, Any],
    *,
    others: Sequence[Mapping[str, Any]] = (),
    women: bool = False,
    by_gateways: bool = False,
) -> list[Line]:
    """Each member has one general seat, one welcome and one count, and analytics agrees with every service.

    `others` are messages that are no welcomes, as of an earlier run on the same data: analytics counts both.
    By gateways, a welcome may also wait for its next try. With `women`, each woman who asked for it has a
    seat in a women's group: the policy has such groups.
    """
    ids = {member["id"] for member in members}
    seats: Counter[str] = Counter()
    for group in groups:
        seats[group["kind"]] += group["members"]
    # One that is just being sent is queued for whoever follows by events.
    states = Counter(
        "queued" if note["state"] == "sending" else note["state"] for note in (*welcomes, *others)
    )
    counted = overview["notifications"]["by_state"]
    settled = [
        note["member_id"]
        for note in welcomes
        if note["state"] in ("sent", "suppressed", "failed") or (by_gateways and note["attempts"])
    ]
    own = [member_id for member_id in settled if member_id in ids]
    return [
        Line(
            "one seat, welcome, count each",
            {
                "members": len(ids),
                "groups": seats["general"],
                "notifications": len(own),
                "analytics": overview["members"]["total"],
            },
        ),
        Line("members with a welcome", {"members": len(ids), "notifications": len(set(own))}),
        Line("groups", {"groups": len(groups), "analytics": overview["groups"]["total"]}),
        Line("seats taken", {"groups": seats.total(), "analytics": overview["groups"]["taken"]}),
        *(
            Line(
                "women who asked, in a women's group",
                {"members": sum(map(_asked, members)), "groups": seats["women"]},
            )
            for _ in range(women)
        ),
        *(
            Line(f"messages {state}", {"notifications": states[state], "analytics": counted.get(state, 0)})
            for state in ("sent", "suppressed", "failed", "queued")
        ),
        Line(
            "women's share",
            {"members": _women_share(members), "analytics": overview["members"]["women_share"]},
        ),
    ]


def _asked(member: Mapping[str, Any]) -> bool:
    """A woman who consents to be in a group, in a block or booth: women's groups are those of the blocks."""
    given = (c["purpose"] == "group" and c["state"] == "given" for c in member["consents"])
    return member["gender"] == "female" and member["unit"].count("-") >= 2 and any(given)


def _women_share(members: Sequence[Mapping[str, Any]]) -> float | None:
    """Women among those who disclosed a gender, as analytics defines it."""
    genders = Counter(m["gender"] for m in members if m["gender"] != "undisclosed")
    return round(genders["female"] / genders.total(), 4) if genders else None


async def _dead_letters(api: Api, service: str) -> int:
    return len([x async for x in api.pages(service, "/v1/ops/dead-letters", state="dead")])


def _latencies(pace: Pace, welcomes: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    arrived = [accepted.at for accepted in pace.walked]
    at = {accepted.member_id: accepted.at for accepted in pace.walked}
    sent = [
        (datetime.fromisoformat(note["attempts"][-1]["at"]) - at[note["member_id"]]).total_seconds()
        for note in welcomes
        if note["member_id"] in at and note["state"] == "sent"
    ]
    return {
        "member counted": waits(arrived, [(s.at, s.members) for s in pace.samples]),
        "welcome sent": sent,
        "welcome counted": waits(arrived, [(s.at, s.welcomes) for s in pace.samples]),
    }
