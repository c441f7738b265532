"""Fixtures for every test. Expensive ones start once a session, and only if a test requests them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

pytest_plugins = ["tests.fixtures.stack"]

# A busy machine is slow at any example; a test that guards a speed says so itself.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores, as long as memory suffices: each worker has a MongoDB and a broker."""
    return min(8, (os.cpu_count() or 1) + 1)


TESTS: Final = Path(__file__).parent
STACKS: Final = 2
"""How many processes run tests that start whole stacks. As many as there are workers would start theirs at
once, and on two cores none would be ready in time."""
LONGEST: Final = [f"tests/unit/messaging/test_{name}.py" for name in ("mutants", "machine")]
"""Minutes of one core in one test: begun early, so that no worker is left alone with them at the end."""


def _shares() -> dict[str, str]:
    """Files whose tests start stacks, each with the share of them that it belongs to."""
    files = [*sorted((TESTS / "journeys").glob("test_*.py")), TESTS / "unit/local/test_stack.py"]
    return {str(file.relative_to(TESTS.parent)): f"stacks {n % STACKS}" for n, file in enumerate(files)}


SHARES: Final = _shares()


class _ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist.scheduler is not typed
    """All tests of a file in one process, and all that start stacks in `STACKS` processes."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARES.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile | None:
    if config.option.dist != "loadfile":
        return None
    config.option.loadscopereorder = False  # which begins with the files of most tests, not of the longest
    return _ByFile(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", help="only every n-th file of those selected: 2/3 is the second third")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if part := config.getoption("--part"):
        n, of = map(int, part.split("/"))
        if not 1 <= n <= of:
            raise pytest.UsageError(f"--part {part}: there is no such part")
        files = set(sorted({item.path for item in items})[n - 1 :: of])
        config.hook.pytest_deselected(items=[item for item in items if item.path not in files])
        items[:] = [item for item in items if item.path in files]

    def order(item: pytest.Item) -> tuple[int, str]:
        file = item.nodeid.partition("::")[0]
        share = SHARES.get(file, "")
        return (0, share) if share else (1 + (file not in LONGEST), "")

    items.sort(key=order)
