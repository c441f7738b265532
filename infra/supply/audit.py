"""Known vulnerabilities of the packages in a lock, by pip-audit.

pip-audit calls a package that its source does not know "skipped", and reports "no known vulnerabilities" for
the rest, even if that is nothing. So this module counts the skipped ones.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.supply.sbom import SupplyError

SECONDS = 300


@dataclass(frozen=True)
class Audit:
    """`found`: a line for each vulnerability. `unknown`: packages that the source does not know."""

    audited: int
    found: Sequence[str]
    unknown: Sequence[str]

    @property
    def whole(self) -> bool:
        return self.audited > 0 and not self.unknown


def run(tools: Path, lock: Path) -> Audit:
    """Audit one lock. Raises: `SupplyError` when pip-audit gives no report, because no source can be
    reached."""
    command = [str(tools / "pip-audit"), "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        return judge(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise SupplyError(f"pip-audit gave no report of {lock.name}: {type(error).__name__}") from None


def judge(report: dict[str, Any]) -> Audit:
    """Evaluate a report of pip-audit in its JSON format."""
    known = [each for each in report["dependencies"] if "skip_reason" not in each]
    return Audit(
        len(known),
        [_line(each, fault) for each in known for fault in each["vulns"]],
        [each["name"] for each in report["dependencies"] if "skip_reason" in each],
    )


def _line(package: dict[str, Any], fault: dict[str, Any]) -> str:
    fixed = ", ".join(fault["fix_versions"]) or "nothing yet"
    return f"{package['name']} {package['version']}: {fault['id']}, fixed in {fixed}"
