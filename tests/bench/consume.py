"""Draining `member.joined` through groups: ours, the hand-written limit, and the peers that can do the job.

Every contender keeps the same guarantees (inbox, placement and staged events in one transaction, offsets committed after it),
calls the same placement code on the same MongoDB and reads from the same broker, in a process of its own: `contenders/<name>.py`.
"""

from __future__ import annotations

from tests.bench.bed import drain
from tests.bench.environment import Environment
from tests.bench.figures import Figure, Ratio, best

OURS = "groups"
WHAT = "member.joined drained by groups"
GOALS: dict[str, float | None] = {
    "aiokafka_batch": 0.8,
    "faststream_batch": 1.0,
    "arroyo_batch": None,
    "quix_batch": None,
    "faust_batch": None,
    "faststream_per_message": 10.0,
    "aiokafka_per_message": 10.0,
}
"""The least ratio of ours to each; the issue sets none for the three that batch and commit in ways of their own."""


async def measure(env: Environment) -> list[Ratio]:
    async def rounds(name: str) -> Figure:
        """The best of several, because the machine has noisy seconds."""
        singly = name.endswith("per_message")
        batched = 20_000 if env.full else 8_000
        count = batched // 20 if singly else batched
        rates = [(await drain(env, name, count)).rate for _ in range(3 if env.full else 1)]
        return best([Figure(f"contenders/{name}.py", rate) for rate in rates])

    names = (
        GOALS if env.full else [n for n in GOALS if n not in ("quix_batch", "faust_batch", "arroyo_batch")]
    )
    mine = await rounds(OURS)
    return [Ratio(WHAT, mine, await rounds(name), GOALS[name]) for name in names]
