"""The invariants of a world at rest, whatever happened before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from services.shared.contracts.groups import GroupMemberWaiting
from services.shared.contracts.members import MemberJoined, MemberUpdated
from services.shared.messaging import Record, letter_id
from tests.unit.messaging.world import PROCESSES, World

MOST_ROUNDS = 1500
SETTLED = ("relay", "consumer")


def always(world: World) -> None:
    """At every moment: no effect without a request, and none twice."""
    assert not world.violations, world.violations
    tokens = Counter(row["token"] for row in world.rows("b", "effects").values())
    assert tokens.keys() <= world.attempted.keys(), "an effect without a request"
    assert all(n == 1 for n in tokens.values()), f"an effect was doubled: {tokens}"


def finish(world: World) -> None:
    """Let everybody recover and finish, and check; then replay the dead letters as an operator, and check
    again."""
    world.bug = world.peer_down = False
    if world.blown:  # an operator tries a restart, in vain
        for name in ("b1", "b2"):
            world.crash(name)
            world.start(name)
        world.everybody(6)
    come_to_rest(world)
    input_is_effects_and_letters(world)
    for letter in [id_ for id_, row in world.rows("b", "dead_letters").items() if row["value"] is not None]:
        world.replay("b1", letter)
        come_to_rest(world)
    input_is_effects_and_letters(world)
    nothing_is_lost(world)
    order_is_kept(world)
    what_follows_is_published(world)
    letters_are_published(world)


def come_to_rest(world: World) -> None:
    for _ in range(MOST_ROUNDS):
        for name in PROCESSES:
            world.start(name)
        world.expire()
        if any(process.fuse.open for process in world.processes.values()):
            world.reset_fuse()
        world.everybody(3)
        world.tick(0.5)
        always(world)
        if at_rest(world):
            return
    raise AssertionError(f"does not come to rest: { {a.name: a.step for a in world.actors.values()} }")


def at_rest(world: World) -> bool:
    busy = any(name.rpartition(".")[2] not in SETTLED and world.parked(name) for name in world.actors)
    rows = world.rows("a", "outbox") or world.rows("b", "outbox")
    unread = (
        len(world.log.records[p]) - world.log.committed.get(("b", p), 0)
        for p in world.log.partitions([MemberJoined.topic])
    )
    return not busy and not rows and not any(unread)


def input_is_effects_and_letters(world: World) -> None:
    poison = {letter_id(record) for record in world.poison}
    input_ = {header(r, "ce_id") for r in wire(world, MemberJoined.topic) if letter_id(r) not in poison}
    effects = {row["event"] for row in world.rows("b", "effects").values()}
    letters = world.rows("b", "dead_letters")
    decodable = {row["event_id"]: row["state"] for row in letters.values() if row["value"] is not None}
    dead = {id_ for id_, state in decodable.items() if state == "dead"}
    assert {id_ for id_, row in letters.items() if row["value"] is None} == poison, "poison without a letter"
    assert len(decodable) + len(poison) == len(letters), "an event has two letters"
    assert not (dead & effects), "an event is dead and applied"
    assert dead | effects == input_, (
        f"lost: {input_ - dead - effects}, from nowhere: {(dead | effects) - input_}"
    )
    guilty = {MemberUpdated.event_type} if world.ever_bug else set()
    guiltless = {row["type"] for row in letters.values() if row["value"] is not None} - guilty
    assert not guiltless, "a healthy event was dead-lettered"


def nothing_is_lost(world: World) -> None:
    """Check after the replays. A request whose answer was lost may count or not, but wholly."""
    effects = Counter(row["subject"] for row in world.rows("b", "effects").values())
    stored = Counter({id_: row["sequence"] for id_, row in world.rows("a", "subjects").items()})
    lost = world.accepted - {row["token"] for row in world.rows("b", "effects").values()}
    assert not lost, f"lost: {lost}"
    assert effects == stored, f"lost: {stored - effects}, from nowhere: {effects - stored}"
    newest = {id_: row["sequence"] for id_, row in world.rows("b", "subjects").items()}
    assert newest == stored, "an older event overwrote a newer state"


def order_is_kept(world: World) -> None:
    """Check each subject's order, on the wire and in the effects; replayed dead letters may come late."""
    late = {row["event_id"] for row in world.rows("b", "dead_letters").values()}
    done: dict[str, list[int]] = defaultdict(list)
    for row in world.rows("b", "effects").values():  # in the order of their commits
        if row["event"] not in late:
            assert row["newer"], "applied after a newer event"
            done[row["subject"]].append(row["sequence"])
    assert all(numbers == sorted(numbers) for numbers in done.values()), f"out of order: {done}"
    poison = {letter_id(record) for record in world.poison}
    sent = [r for r in wire(world, MemberJoined.topic) if letter_id(r) not in poison]
    in_sequence(sent, {id_: row["sequence"] for id_, row in world.rows("a", "subjects").items()})


def what_follows_is_published(world: World) -> None:
    counts = {id_: row["count"] for id_, row in world.rows("b", "subjects").items()}
    in_sequence(wire(world, GroupMemberWaiting.topic), counts)


def letters_are_published(world: World) -> None:
    copies = {
        ":".join(header(r, f"dlq_{part}") for part in ("topic", "partition", "offset"))
        for r in wire(world, "b.dlq")
    }
    assert copies == set(world.rows("b", "dead_letters")), "a letter is missing in the topic, or has no row"


def in_sequence(records: Iterable[Record], last: dict[str, int]) -> None:
    """Check that each subject's events run from 1 to the last; a second copy is not a new event."""
    first: dict[str, dict[str, int]] = defaultdict(dict)
    for record in records:
        first[header(record, "ce_subject")].setdefault(
            header(record, "ce_id"), int(header(record, "ce_sequence"))
        )
    sent = {subject: list(numbers.values()) for subject, numbers in first.items()}
    whole = {subject: list(range(1, n + 1)) for subject, n in last.items()}
    assert sent == whole, f"sent out of order or not at all: {sent}"


def wire(world: World, topic: str) -> Sequence[Record]:
    return world.log.read(topic)


def header(record: Record, name: str) -> str:
    return dict(record.headers)[name].decode()
