"""The limit of open files follows the limit of connections."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from services.shared.runtime.lifecycle import OTHER_FILES, allow_open_files


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_there_may_be_connections(limits: tuple[int, int]) -> None:
    soft, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    with capture_logs() as said:
        allow_open_files(soft - OTHER_FILES)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    assert not said


def test_a_higher_limit_stays_and_one_that_cannot_be_had_is_told(limits: tuple[int, int]) -> None:
    soft, hard = limits
    allow_open_files(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    with capture_logs() as said:
        allow_open_files(hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert said[0]["event"] == "server.few_open_files"
