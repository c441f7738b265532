"""Marks the tests below: one service or the platform, on a real MongoDB and a real broker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

ANY_BROKER: Final = {
    "analytics": "api inclusion projections",
    "database": "migrations",
    "groups": "admins chat_groups finding_units last_seat rosters tree upkeep",
    "jobs": "api requests worker",
    "members": """bad_input changes consents directory dossier duplicates export grievances import_consents
        import_files import_numbers import_rights import_welcomes imports incidents matching merges minors
        oracles reached_by reads registration roles rotation search""",
    "notifications": """api authority channels claims clocks dispatcher interleavings invites isolation
        migrations rotation templates token welcome""",
}
"""Tests of what callers and jobs do: no broker takes part, or it only takes what the outbox holds, which the
tests of messaging show for each kind of broker. `make onkafka` leaves them out."""

HEAVY: Final = {
    "analytics": "projections",
    "groups": "policy redrawing rosters tree",
    "members": "erasure oracles reached_by restore search",
    "messaging": "metrics set_aside",
    "notifications": "authority clocks gateways interleavings isolation killed_sending",
}
"""Tests that take more than 20 seconds of processor time a file, measured; CI runs them, `make test` does
not."""


def _files(rooms: Mapping[str, str]) -> set[Path]:
    here = Path(__file__).parent
    files = {here / room / f"test_{name}.py" for room, names in rooms.items() for name in names.split()}
    missing = [path for path in files if not path.exists()]
    assert not missing, f"there are no such files: {missing}"
    return files


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, any_broker, heavy = Path(__file__).parent, _files(ANY_BROKER), _files(HEAVY)
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")
            if item.path in any_broker:
                item.add_marker("anybroker")
            if item.path in heavy:
                item.add_marker("heavy")
