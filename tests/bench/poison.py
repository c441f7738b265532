"""Draining `member.joined` through groups from a poisoned topic, against the same topic without poison: healthy events a second.

One record in fifty is bad (tests/fixtures/poison.py), of about the size of an event, so that what is compared is the handling and not
the bytes. That each of them is dead-lettered once is checked too.
"""

from __future__ import annotations

from tests.bench.bed import Drained, drain
from tests.bench.consume import OURS, size
from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio

EVERY = 50
GOAL = 0.9
FLOOR = 0.8
"""The goal is not reached: what a bad record costs beyond its two writes is still to be found. Two drains of one topic differ by a tenth."""
NAMES = {EVERY: "one record in 50 bad, poison.py", 0: "none bad, poison.py"}


async def measure(env: Environment) -> list[Ratio]:
    drained: dict[int, list[Drained]] = {EVERY: [], 0: []}
    for _ in range(4):  # in turn, so that a noisy minute hurts both
        for every, those in drained.items():
            those.append(await drain(env, OURS, size(env, OURS), poison_every=every))
    rates = {every: Figure(NAMES[every], max(d.rate for d in those)) for every, those in drained.items()}
    costs = {
        every: Figure(NAMES[every], min(d.processor for d in those) * 1e6, "us")
        for every, those in drained.items()
    }
    return [
        Ratio("healthy events from a poisoned topic", rates[EVERY], rates[0], GOAL, floor=FLOOR),
        Ratio("processor time of a healthy event among poison", costs[EVERY], costs[0], None, at_most=True),
    ]
