from __future__ import annotations

import os

import pytest

from infra.local.errors import LocalError
from infra.local.workdir import hold


def test_a_held_directory_is_refused_and_its_holder_named(tmp_path):
    directory = tmp_path / "stack"
    with hold(directory), pytest.raises(LocalError, match=str(os.getpid())), hold(directory):
        pass


def test_siblings_are_taken_in_order(tmp_path):
    directory = tmp_path / "stack"
    with (
        hold(directory),
        hold(directory, or_sibling=True) as second,
        hold(directory, or_sibling=True) as third,
    ):
        assert [second.name, third.name] == ["stack-2", "stack-3"]


def test_a_directory_is_free_again_after_its_run(tmp_path):
    directory = tmp_path / "stack"
    with hold(directory):
        pass
    with hold(directory, or_sibling=True) as again:
        assert again == directory


def test_only_the_owner_can_look_inside(tmp_path):
    with hold(tmp_path / "stack") as directory:
        assert directory.stat().st_mode & 0o077 == 0
