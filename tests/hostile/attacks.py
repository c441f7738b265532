"""The attacks: records that a producer with write access to the topics can publish, by kind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.shared.ids import new_id
from services.shared.messaging import Message

MEMBERS, GROUPS, NOTIFICATIONS = "sangathan.members", "sangathan.groups", "sangathan.notifications"
UNIT = "BR-GAYA"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
PERSON = "Sunita Devi 9876543210"
"""Must not be found in any dead letter."""

Forge = Callable[[int], Message]
"""The n-th record of an attack."""


@dataclass(frozen=True)
class Attack:
    """`count` records in a full run; a quick one sends a tenth.

    `letters`: whether they end as dead letters.
    """

    name: str
    forge: Forge
    count: int = 2000
    letters: bool = True


def forged(
    topic: str, type_: str, subject: str, data: Mapping[str, Any] | bytes, **headers: bytes | None
) -> Message:
    """A record in the form of an event; a header of None is null."""
    value = data if isinstance(data, bytes) else json.dumps(data).encode()
    attributes: dict[str, bytes | None] = {
        "ce_specversion": b"1.0",
        "ce_id": new_id().encode(),
        "ce_source": b"/" + topic.rpartition(".")[2].encode(),
        "ce_type": type_.encode(),
        "ce_subject": subject.encode(),
        "ce_time": now(),
        "content-type": b"application/json",
        "ce_sequence": b"1",
        "ce_correlationid": new_id().encode(),
        "ce_traceparent": TRACE.encode(),
        **headers,
    }
    return Message(topic, subject.encode(), value, tuple(attributes.items()))  # type: ignore[arg-type]


def now(ahead: timedelta = timedelta()) -> bytes:
    return (datetime.now(UTC) + ahead).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def joined(member: str, **changes: Any) -> dict[str, Any]:
    return {
        "member_id": member,
        "unit": UNIT,
        "gender": "female",
        "language": "hi",
        "joined_at": now().decode(),
        "channels": ["whatsapp"],
    } | changes


def a_join(**changes: Any) -> Forge:
    def forge(_: int) -> Message:
        member = new_id()
        return forged(MEMBERS, "member.joined", member, joined(member, **changes))

    return forge


def a_join_under(**headers: bytes | None) -> Forge:
    def forge(_: int) -> Message:
        member = new_id()
        return forged(MEMBERS, "member.joined", member, joined(member), **headers)

    return forge


def a_group(**changes: Any) -> Forge:
    def forge(_: int) -> Message:
        group = new_id()
        data = {"group_id": group, "unit": UNIT, "kind": "general", "ordinal": 1, "capacity": 1024} | changes
        return forged(GROUPS, "group.created", group, data)

    return forge


def misplaced(n: int) -> Message:
    """A type in a topic that is not its own, from either source."""
    member, group = new_id(), new_id()
    if n % 2:
        return forged(GROUPS, "member.left", member, {"member_id": member, "unit": UNIT})
    data = {"group_id": group, "unit": UNIT, "kind": "general", "ordinal": 1, "capacity": 1024}
    return forged(MEMBERS, "group.created", group, data)


def garbage(n: int) -> Message:
    return Message((MEMBERS, GROUPS, NOTIFICATIONS)[n % 3], str(n).encode(), os.urandom(200), ())


def names_as_keys(_: int) -> Message:
    data = {"unit": UNIT, "level": "district", "names": {PERSON: 1}}
    return forged(GROUPS, "unit.upserted", UNIT, data, ce_sequence=b"2")


def of_the_future(n: int) -> Message:
    member = new_id()
    return forged(MEMBERS, f"member.ascended_{n % 30}", member, {"member_id": member})


ATTACKS: Sequence[Attack] = (
    Attack("garbage in every topic", garbage),
    Attack("a type in a foreign topic", misplaced),
    Attack("a unit of 5,000 segments", a_join(unit="-".join(["A"] * 5000))),
    Attack("capacities of 2^63 and below 0", lambda n: a_group(capacity=(2**63 - 101, -4)[n % 2])(n)),
    Attack("an id of a megabyte in the headers", a_join_under(ce_id=b"x" * 1_000_000), count=100),
    Attack("sequences of 10^18", a_join_under(ce_sequence=b"9" * 18)),
    Attack("times in the year 9999", a_join_under(ce_time=b"9999-12-31T23:59:59.999Z")),
    Attack("names as keys of the data", names_as_keys),
    Attack("lists of 12,000 words", a_join(roles=["A"] * 12_000), count=500),
    Attack("lists of 700 kB", a_join(platforms=["A"] * 140_000), count=100),
    Attack("ids that are none", lambda n: forged(MEMBERS, "member.joined", f"x{n}", joined(f"x{n}"))),
    Attack("well-formed joins of nobody", a_join(), letters=False),
    Attack("types of a later release", of_the_future, letters=False),
)
