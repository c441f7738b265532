"""The limit on answers about taken phones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.members.core import taken_phones
from services.members.core.taken_phones import AnswerLimit
from services.shared.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 26, tzinfo=UTC))


def test_a_burst_and_then_so_many_per_hour(clock: ManualClock) -> None:
    limit = AnswerLimit(clock, burst=3, per_hour=60)
    for member in "xyz":
        assert limit.wait_seconds("a") == 0
        limit.take("a", member)
    assert limit.wait_seconds("a") == 60
    assert limit.wait_seconds("b") == 0
    clock.advance(timedelta(seconds=59))
    assert limit.wait_seconds("a") == 1
    clock.advance(timedelta(seconds=1))
    assert limit.wait_seconds("a") == 0
    limit.take("a", "v")
    assert limit.wait_seconds("a") == 60
    clock.advance(timedelta(days=9))
    for member in "rst":
        limit.take("a", member)
    assert limit.wait_seconds("a") == 60, "no more than the burst is saved up"


def test_answers_of_requests_that_ran_at_once_are_paid_for_later(clock: ManualClock) -> None:
    limit = AnswerLimit(clock, burst=1, per_hour=60)
    for member in "abcdefghijk":
        limit.take("a", member)
    assert limit.wait_seconds("a") == 11 * 60


def test_the_same_answer_again_is_free(clock: ManualClock) -> None:
    limit = AnswerLimit(clock, burst=3, per_hour=60)
    for _ in range(50):
        limit.take("a", "x")
        limit.take("a", "y")
    assert limit.wait_seconds("a") == 0
    limit.take("a", "z")
    assert limit.wait_seconds("a") == 60
    for n in range(taken_phones.MAX_TOLD):
        limit.take("a", str(n))
    before = limit.wait_seconds("a")
    limit.take("a", "x")
    assert limit.wait_seconds("a") == before + 60, "long forgotten, so it is an answer"


def test_a_clock_that_is_set_back_gives_and_takes_nothing(clock: ManualClock) -> None:
    limit = AnswerLimit(clock, burst=1, per_hour=60)
    limit.take("a", "x")
    clock.advance(timedelta(days=-1))
    assert limit.wait_seconds("a") == 60


def test_memory_is_bounded(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken_phones, "MAX_SUBJECTS", 3)
    limit = AnswerLimit(clock, burst=1, per_hour=60)
    for subject in ("a", "b", "a", "c", "d"):
        limit.take(subject, "x")
    assert [limit.wait_seconds(subject) > 0 for subject in "abcd"] == [True, False, True, True]
