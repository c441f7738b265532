"""Marks the tests below: one service or the platform, on a real MongoDB and a real broker."""

from __future__ import annotations

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    any_broker = {
        here / room / f"test_{name}.py" for room, names in ANY_BROKER.items() for name in names.split()
    }
    missing = [path for path in any_broker if not path.exists()]
    assert not missing, f"ANY_BROKER names files that are not there: {missing}"
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")
            if item.path in any_broker:
                item.add_marker("anybroker")
