"""A fact whose sequences were forgotten: the next snapshot puts it right, and nothing is counted again."""

from __future__ import annotations

from services.analytics.core.facts import MOST_BEYOND, Fact, forget, learn, learn_whole

PROFILE = {"unit": "BR-A", "joined": True}


def known(*sequences: int) -> Fact:
    fact = Fact("m")
    for sequence in sequences:
        fact = learn(fact, sequence, PROFILE) or fact
    return fact


def test_a_snapshot_after_a_forged_event_states_every_field_again() -> None:
    forged = learn(known(1, 2, 3), 500_000, {"unit": "BR-FORGED"})
    assert forged is not None
    stale = learn_whole(forged, 4, PROFILE)
    assert stale is not None
    assert stale["unit"] == "BR-FORGED", "frozen: what its owner says is stale"
    mended = learn_whole(forget(forged), 3, PROFILE)
    assert mended is not None
    assert (mended.upto, mended.beyond, mended.values) == (3, (), PROFILE)
    after = learn(mended, 4, {"unit": "BR-B"})
    assert after is not None
    assert (after.upto, after["unit"]) == (4, "BR-B")


def test_an_event_between_forgetting_and_the_snapshot_keeps_its_say() -> None:
    forged = learn(known(1, 2), 500_000, {"unit": "BR-FORGED", "joined": False})
    assert forged is not None
    newer = learn(forget(forged), 4, {"unit": "BR-NEW"})
    assert newer is not None
    mended = learn_whole(newer, 3, PROFILE)
    assert mended is not None
    assert (mended.upto, mended.values) == (4, {"unit": "BR-NEW", "joined": True})


def test_a_forged_snapshot_of_an_unknown_subject_is_taken_back() -> None:
    forged = learn_whole(Fact("m"), 500_000, {"unit": "BR-FORGED", "joined": True})
    assert forged is not None
    assert learn(forged, 2, {"unit": "BR-B"}) is None, "frozen"
    mended = learn_whole(forget(forged), 2, PROFILE)
    assert mended is not None
    assert (mended.upto, mended.values) == (2, PROFILE)
    assert not forget(forged).unheard, "its beginning has been counted"


def test_to_forget_twice_is_to_forget_once_and_a_beginning_not_heard_is_not_invented() -> None:
    assert forget(forget(known(1, 2))) == forget(known(1, 2))
    assert forget(known(5)).unheard


def test_a_fact_does_not_grow_with_gaps() -> None:
    fact = known(1, 2, *range(10, 10 + 3 * MOST_BEYOND, 2))
    assert len(fact.beyond) == MOST_BEYOND
    assert (fact.beyond[-1], fact["unit"]) == (8 + 3 * MOST_BEYOND, "BR-A")
    assert learn(fact, 3, PROFILE) is None, "given up"
    assert learn(fact, fact.beyond[-1] - 1, PROFILE) is not None
