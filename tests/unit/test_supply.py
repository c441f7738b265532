"""The locks and their reports: a bill of materials must be complete, and an audit must not pass by
silence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.supply.__main__ import NOT_TESTED, app
from infra.supply.audit import judge
from infra.supply.locks import locks, packages
from infra.supply.sbom import SupplyError, complete

LOCK = (
    "a-b==1.0 \\\n    --hash=sha256:00\n"
    "c[d]==2 ; python_version < '3.12' \\\n    --hash=sha256:00\n    # via x==9\n"
)
CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize("name", locks())
def test_every_package_of_every_lock_has_its_hashes(name: str) -> None:
    text = locks()[name].read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2])
    pinned = [entry for entry in entries if "==" in entry.partition("\n")[0]]
    assert len(pinned) >= len(packages(locks()[name])) > 5
    assert all("--hash=sha256:" in entry for entry in pinned)


def bill(*components: tuple[str, str]) -> dict[str, Any]:
    return {"components": [{"purl": f"pkg:pypi/{name}@{v}", "version": v} for name, v in components]}


def test_a_bill_that_leaves_something_out_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(LOCK)
    assert complete(bill(("a-b", "1.0"), ("c", "2")), lock) == 2
    with pytest.raises(SupplyError, match=r"not in the bill of x\.lock: c 2"):
        complete(bill(("a-b", "1.0"), ("c", "3")), lock)


def tool(directory: Path, *reports: Any) -> Path:
    """A fake pip-audit that returns these reports one after the other, and then the last one for ever."""
    for n, report in enumerate(reports):
        (directory / f"{n}.json").write_text(
            json.dumps({"dependencies": report}) if report is not None else ""
        )
    script = (
        f"#!/bin/sh\ncd {directory}; "
        'cat "$(ls *.json | head -1)"; [ "$(ls *.json | wc -l)" = 1 ] || rm "$(ls *.json | head -1)"\n'
    )
    (directory / "pip-audit").write_text(script)
    (directory / "pip-audit").chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("reports", "code", "said"),
    [
        ([[CLEAN]], 0, "no known vulnerability in 1 packages"),
        ([[SKIPPED], [BAD], [CLEAN]], 1, "b 2: PYSEC-1, fixed in 2.1"),
        ([[CLEAN], [SKIPPED, CLEAN], [CLEAN]], NOT_TESTED, "the source knows 1 of 2 packages, not c"),
        ([[]], NOT_TESTED, "the source knows 0 of 0"),
        ([None], NOT_TESTED, "pip-audit gave no report"),
    ],
)
def test_a_source_that_knows_nothing_is_no_good_news(
    tmp_path: Path, reports: list[Any], code: int, said: str
) -> None:
    result = CliRunner().invoke(app, ["audit", "--tools", str(tool(tmp_path, *reports))])
    assert (result.exit_code, said in result.stdout) == (code, True), result.stdout


def test_a_report_is_read() -> None:
    outcome = judge({"dependencies": [CLEAN, BAD, SKIPPED]})
    assert (outcome.audited, outcome.unknown, outcome.whole) == (2, ["c"], False)
