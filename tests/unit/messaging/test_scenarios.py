"""Bugs found while the state machine was built, replayed step by step, independent of what it tries next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.shared.contracts.members import MemberJoined, MemberUpdated
from tests.unit.messaging.verdict import come_to_rest, finish
from tests.unit.messaging.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """One process of each service, with three events to consume."""
    world = World()
    for name in ("a2", "b2"):
        world.crash(name)
    world.expire()
    for subject in "xvz":
        world.request("a1", subject, MemberJoined)
        world.go("a1.request", 20)
    for _ in range(3):
        world.go_to("a1.relay", "delete outbox done")
        world.go("a1.relay", 1)
    assert len(world.log.read(MemberJoined.topic)) == 3
    yield world
    world.close()


def in_two_sub_batches(world: World) -> None:
    world.go_to("b1.consumer", "find inbox")
    assert all(world.parked(f"b1.consumer.{n}") for n in (0, 1))


def test_a_partition_lost_and_regained_during_a_batch_is_not_committed_without_its_effects(
    world: World,
) -> None:
    in_two_sub_batches(world)
    world.go_to("b1.consumer.0", "peer")
    world.fail("b1.consumer.0")
    assert world.actors["b1.consumer.0"].step == "pause"
    world.start("b2")
    world.go("b2.consumer", 3)
    world.go_to("b1.consumer", "commit offsets", most=10)
    world.crash("b2")
    world.expire()
    world.go("b1.consumer", 1)
    world.crash("b1")
    finish(world)


@pytest.mark.parametrize("sub_batch", [0, 1])
def test_a_process_that_dies_between_the_commits_of_its_sub_batches_repeats_nothing(
    world: World, sub_batch: int
) -> None:
    in_two_sub_batches(world)
    world.go_to(f"b1.consumer.{sub_batch}", "commit done")
    assert 0 < len(world.rows("b", "effects")) < 3
    world.crash("b1")
    finish(world)


@pytest.mark.parametrize("sub_batch", [0, 1])
def test_a_batch_with_a_failed_sub_batch_is_not_committed(world: World, sub_batch: int) -> None:
    in_two_sub_batches(world)
    world.go_to(f"b1.consumer.{sub_batch}", "peer")
    world.fail(f"b1.consumer.{sub_batch}")
    world.terminate("b1")
    world.everybody(20)
    assert 0 < len(world.rows("b", "effects")) < 3
    assert sum(world.log.committed.values()) == 0
    finish(world)


def test_two_replays_of_one_dead_letter_at_once_apply_it_once(world: World) -> None:
    world.bug = world.ever_bug = True
    world.request("a1", "x", MemberUpdated)
    world.everybody(60)
    (letter,) = world.rows("b", "dead_letters")
    world.bug = False
    world.start("b2")
    for name in ("b1", "b2"):
        world.replay(name, letter)
        world.go(f"{name}.replay", 1)
    come_to_rest(world)
    assert [row["state"] for row in world.rows("b", "dead_letters").values()] == ["replayed"]
    finish(world)


def test_a_lease_confirmed_after_its_expiry_is_not_held(world: World) -> None:
    world.tick(10)
    world.go_to("a1.relay", "update leases done")
    world.tick(10)
    world.start("a2")
    world.go_to("a2.relay", "find outbox")
    world.go("a1.relay", 1)
    assert world.actors["a1.relay"].step != "find outbox"
    finish(world)


def test_events_committed_between_the_relays_two_reads_are_published_in_order(world: World) -> None:
    """The two events come from processes whose clocks, and so whose ids, differ."""
    world.tick(10)
    for subject in "xu":
        world.request("a1", subject, MemberJoined)
        world.go("a1.request", 20)
    world.go_to("a1.relay", "find outbox")
    world.go("a1.relay", 1)
    assert world.actors["a1.relay"].step == "find outbox", "the second read"
    world.start("a2")
    for name in ("a2", "a1"):
        world.request(name, "x", MemberUpdated)
        world.go(f"{name}.request", 20)
    world.go("a1.relay", 1)
    finish(world)
