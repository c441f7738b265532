"""Draining `member.joined` through groups from a poisoned topic, against the same topic without poison: healthy events a second.

One record in fifty is bad (tests/fixtures/poison.py), of about the size of an event, so that what is compared is the handling and not
the bytes. That each of them is dead-lettered once is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.bench.bed import Drained, drain
from tests.bench.consume import OURS
from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio

EVERY = 50
GOAL = 0.9
FLOOR = 0.8
"""Two drains of one and the same topic differ by a tenth on these machines."""
PAIRS = 5
COUNT = 12_000
"""Healthy events a drain, two dozen batches: with a dozen, two drains of one topic differ by more than poison costs."""
NAMES = {EVERY: "one record in 50 bad, poison.py", 0: "none bad, poison.py"}


async def measure(env: Environment) -> list[Ratio]:
    pairs: list[dict[int, Drained]] = []
    for n in range(PAIRS):
        # One after the other, each first in turn: a noisy minute hurts both, and neither always finds the warmer machine.
        order = (EVERY, 0) if n % 2 else (0, EVERY)
        pairs.append({every: await drain(env, OURS, COUNT, poison_every=every) for every in order})
    rate, rate_alone = median(pairs, lambda d: d.rate, "/s")
    cost, cost_alone = median(pairs, lambda d: (d.processor + d.mongod) * 1e6, "us")
    what = "processor time of a healthy event among poison, with mongod's"
    return [
        Ratio("healthy events from a poisoned topic", rate, rate_alone, GOAL, floor=FLOOR),
        Ratio(what, cost, cost_alone, None, at_most=True),
    ]


def median(
    pairs: Sequence[Mapping[int, Drained]], of: Callable[[Drained], float], unit: str
) -> tuple[Figure, Figure]:
    """The pair whose ratio is the one in the middle: among poison, and without."""
    values = [(of(pair[EVERY]), of(pair[0])) for pair in pairs]
    poisoned, alone = sorted(values, key=lambda pair: pair[0] / pair[1])[len(values) // 2]
    return Figure(NAMES[EVERY], poisoned, unit), Figure(NAMES[0], alone, unit)
