"""Draining `member.joined` through groups: our consumer, a hand-written lower bound, and the peer libraries.

Every contender keeps the same guarantees (inbox, placement and staged events in one transaction, offsets
committed after it), calls the same placement code on the same MongoDB and reads from the same broker, in a
separate process: `contenders/<name>.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.bed import Drained, drain, healthy_topic
from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio

OURS, LIMIT = "groups", "aiokafka_batch"
WHAT = "member.joined drained by groups"
GOALS: dict[str, float | None] = {
    LIMIT: 0.8,
    "faststream_batch": 1.0,
    "arroyo_batch": None,
    "quix_batch": None,
    "faust_batch": None,
    "faststream_per_message": 10.0,
    "aiokafka_per_message": 10.0,
}
"""The least ratio of ours to each; None for the three that batch and commit in ways of their own."""
FLOORS = {"faststream_batch": 0.8}
"""Ours and this peer are about equally fast: one run says 0.9 and the next 1.1."""


async def measure(env: Environment) -> list[Ratio]:
    names = [name for name in GOALS if env.full or GOALS[name] is not None]
    drained: dict[str, list[Drained]] = {name: [] for name in (OURS, *names)}
    for _ in range(3 if env.full else 2):  # take turns, so that a noisy minute hurts all
        for name, those in drained.items():
            those.append(await drain(env, name, healthy_topic(size(env, name))))
    return [
        *(
            Ratio(
                WHAT,
                rate(OURS, drained[OURS]),
                rate(name, drained[name]),
                GOALS[name],
                floor=FLOORS.get(name),
            )
            for name in names
        ),
        Ratio("processor time of an event", cost(OURS, drained[OURS]), cost(LIMIT, drained[LIMIT]), None),
    ]


def size(env: Environment, name: str) -> int:
    batched = 20_000 if env.full else 6_000
    return batched // 20 if name.endswith("per_message") else batched


def rate(name: str, drained: Sequence[Drained]) -> Figure:
    return Figure(f"contenders/{name}.py", max(d.rate for d in drained))


def cost(name: str, drained: Sequence[Drained]) -> Figure:
    """Processor time per event, without mongod's and the broker's."""
    return Figure(f"contenders/{name}.py", min(d.processor for d in drained) * 1e6, "us")
