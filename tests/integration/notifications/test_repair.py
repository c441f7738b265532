"""Forged sequences: a leap is refused, and a subject frozen below the bound is learnt again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.notifications.core.domain import State
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupSnapshot, PlacementSnapshot
from services.shared.contracts.members import MemberSnapshot
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import MAX_LEAP, UnitOfWork
from tests.integration.notifications.conftest import Bench, assigned, envelope, invite, joined, left, moved
from tests.integration.notifications.stand_ins import Peers

NOW = datetime(2025, 6, 1, tzinfo=UTC)


def member_snapshot(member: str, sequence: int, status: str = "active") -> Envelope[Event]:
    return envelope(
        MemberSnapshot.model_validate(
            {
                "member_id": member,
                "unit": "BR-SARAN",
                "gender": Gender.FEMALE,
                "language": "hi",
                "joined_at": NOW,
                "channels": ("whatsapp",),
                "status": status,
            }
        ),
        sequence,
    )


def placement_snapshot(member: str, group: str, sequence: int) -> Envelope[Event]:
    event = PlacementSnapshot(
        member_id=member,
        unit="BR-SARAN",
        state="assigned",
        group_id=group,
        kind="general",
        ordinal=1,
        since=NOW,
    )
    return envelope(event, sequence)


def group_snapshot(group: str, sequence: int, *, ready: bool) -> Envelope[Event]:
    event = GroupSnapshot(
        group_id=group, unit="BR-SARAN", kind="general", ordinal=1, capacity=5, invite_ready=ready
    )
    return envelope(event, sequence)


async def forget(bench: Bench, *subjects: str) -> None:
    """As `POST /v1/ops/repairs` does."""

    async def body(work: UnitOfWork) -> None:
        for learnt in (each for feature in bench.service.features for each in feature.learnt):
            await learnt.forget(subjects, work.session)

    await bench.runtime.outbox.transact(body)


@pytest.mark.parametrize("sequence", [MAX_LEAP + 2, 2**31, 2**53 - 1])
async def test_a_leap_takes_no_effect_on_member_seat_or_link(
    bench: Bench, peers: Peers, sequence: int
) -> None:
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(
        joined(member),
        assigned(member, group),
        left(member, sequence),
        moved(member, sequence),
        assigned(member, new_id(), sequence),
        invite(group, sequence, ready=False),
        invite(group, 1),
    )
    assert await bench.dispatch() == 1
    n = await bench.welcome(member)
    assert (n.state, n.group_id, n.unit) == (State.SENT, group, "BR-SARAN")
    letters = await bench.database["dead_letters"].find({}).to_list(None)
    assert [letter["reason"] for letter in letters] == ["sequence_leap"] * 4


async def test_a_repair_takes_back_a_forged_seat_and_a_forged_leaving(bench: Bench, peers: Peers) -> None:
    member, group, ghost = peers.add_member(), peers.add_group(), new_id()
    await bench.deliver(joined(member), assigned(member, ghost, 500_000), assigned(member, group, 1))
    assert (await bench.welcome(member)).group_id == ghost, "frozen: the genuine seat came too late"
    await bench.deliver(invite(group, 1), moved(member, 500_000, "BR-FORGED"))
    await forget(bench, member)
    await bench.deliver(member_snapshot(member, 1), placement_snapshot(member, group, 1))
    assert await bench.dispatch() == 1
    n = await bench.welcome(member)
    assert (n.state, n.group_id, n.unit) == (State.SENT, group, "BR-SARAN")

    await bench.deliver(left(member, 600_000))
    await forget(bench, member)
    await bench.deliver(member_snapshot(member, 2), placement_snapshot(member, group, 1))
    recipient = (await bench.core.recipients.by_id([member]))[member]
    assert (recipient.active, recipient.unit_sequence) == (True, 2)
    await forget(bench, member)
    await bench.deliver(member_snapshot(member, 3, "left"))
    assert not (await bench.core.recipients.by_id([member]))[member].active, "who left is not revived"
    assert await bench.dispatch() == 0, "nothing is sent twice"


async def test_a_repair_takes_back_a_forged_withdrawal_of_a_link(bench: Bench, peers: Peers) -> None:
    member, group = peers.add_member(), peers.add_group()
    await bench.deliver(joined(member), assigned(member, group), invite(group, 500_000, ready=False))
    await bench.deliver(invite(group, 2))
    assert await bench.dispatch() == 0
    assert (await bench.welcome(member)).held_for == "no_invite", "frozen"
    await forget(bench, group)
    await bench.deliver(group_snapshot(group, 2, ready=True))
    assert await bench.dispatch() == 1
    await bench.deliver(invite(group, 3, ready=False))
    assert await bench.core.invites.sequences([group], None) == {group: 3}  # type: ignore[arg-type]
