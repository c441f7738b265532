"""Every fault under load: nothing lost, nothing doubled, in order, and no effect without a request."""

from __future__ import annotations

import random

import pytest

from tests.chaos.conftest import BROKER, SEED
from tests.chaos.faults import FAULTS, NOT_EMBEDDED, READS
from tests.chaos.scene import CAPACITY, Scene

ORDER = random.Random(SEED).sample(list(FAULTS), len(FAULTS))


@pytest.mark.timeout(360)
@pytest.mark.parametrize("fault", ORDER)
async def test_nothing_is_lost_or_doubled(scene: Scene, fault: str) -> None:
    if BROKER == "embedded" and fault in NOT_EMBEDDED:
        pytest.skip(f"not on the embedded broker: {NOT_EMBEDDED[fault]}")
    row = await scene.suffer(fault, FAULTS[fault])
    assert row.times > 0
    assert row.accepted > 0
    assert (row.lost, row.doubled) == (0, 0)
    assert row.effects == row.accepted
    assert not scene.ledger.uncalled_for(scene.accepted)
    assert not scene.ledger.gaps()
    # Every input ends as an effect or a dead letter. No good event is a dead letter, whatever happened to its
    # consumer.
    assert {name: await scene.letters(name) for name in READS} == {
        name: scene.poisoned * topics for name, topics in READS.items()
    }
    assert max([g["members"] async for g in scene.api.pages("groups", "/v1/groups")]) <= CAPACITY
