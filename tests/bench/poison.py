"""Healthy events a second that groups drains from a poisoned topic, against the same topic without poison.

One record in fifty is bad: the kinds of tests/fixtures/poison.py, and some that are no dead letters: a newer
version, an event that comes twice, a sequence that comes twice; the event before it has a gap in its
sequence. Two huge records are added. The bench also checks that each has the required outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import NamedTuple

from services.shared.ids import new_id
from services.shared.messaging import Message
from tests.bench.bed import Drained, Topic, drain, healthy_topic
from tests.bench.consume import OURS
from tests.bench.environment import Environment, healthy
from tests.bench.figures import Figure, Ratio
from tests.fixtures.poison import FUTURE, POISON, changed

EVERY = 50
GOAL = 0.9
FLOOR = 0.8
"""Two drains of the same topic differ by a tenth on these machines."""
PAIRS = 5
COUNT = 24_000
"""Healthy events per drain, two dozen fetches: with a dozen, two drains of one topic differ by more than
poison costs."""
HUGE = (300_000, 10 * 1024 * 1024)
"""Bytes, one of each per drain. Records above 256 KiB are read but not parsed: ten megabytes are three
quarters of all the rest."""
NAMES = {EVERY: "one record in 50 bad, poison.py", 0: "none bad, poison.py"}


class Bad(NamedTuple):
    make: Callable[[Message], Message]
    """Makes the bad record from the healthy event before it."""
    letter: bool = False
    """It must be dead-lettered."""
    skipped: bool = False
    """It must change nothing, and be in the inbox."""


def with_headers(message: Message, **headers: bytes) -> Message:
    return replace(message, headers=tuple((dict(message.headers) | headers).items()))


def anew(make: Callable[[], Message]) -> Callable[[Message], Message]:
    return lambda _: make()


KINDS: Sequence[Bad] = (
    *(Bad(anew(make), letter=True) for _, make in POISON),
    Bad(anew(FUTURE)),
    Bad(lambda event: event),
    Bad(lambda event: with_headers(event, ce_id=new_id().encode()), skipped=True),
)


def poisoned_topic(count: int) -> Topic:
    messages: list[Message] = []
    letters, skipped, kinds = len(HUGE), 0, cycle(KINDS)
    for n, message in enumerate(healthy(count)):
        if n % EVERY < EVERY - 1:
            messages.append(message)
        else:
            event, kind = with_headers(message, ce_sequence=b"7"), next(kinds)
            messages += [event, kind.make(event)]
            letters += kind.letter
            skipped += kind.skipped
    for place, size in enumerate(HUGE, start=1):
        messages.insert(place * len(messages) // 3, changed(value=b"x" * size)())
    return Topic(messages, count, letters, skipped)


async def measure(env: Environment) -> list[Ratio]:
    topics = {EVERY: poisoned_topic, 0: healthy_topic}
    pairs: list[dict[int, Drained]] = []
    for n in range(PAIRS):
        # Alternate the order: a noisy minute hurts both, and neither always runs on the warmer machine.
        order = (EVERY, 0) if n % 2 else (0, EVERY)
        pairs.append({every: await drain(env, OURS, topics[every](COUNT)) for every in order})
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
    """The pair with the median ratio: among poison, and without."""
    values = [(of(pair[EVERY]), of(pair[0])) for pair in pairs]
    poisoned, alone = sorted(values, key=lambda pair: pair[0] / pair[1])[len(values) // 2]
    return Figure(NAMES[EVERY], poisoned, unit), Figure(NAMES[0], alone, unit)
