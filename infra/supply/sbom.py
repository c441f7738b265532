"""A bill of materials of a lock, as CycloneDX 1.6 (JSON) by cyclonedx-py, checked for completeness."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from infra.supply.locks import ROOT, packages


class SupplyError(Exception):
    """A tool failed, or left something out."""


def write(tools: Path, lock: Path, to: Path) -> int:
    """Write the bill and return the number of its components. The same lock gives the same bytes.

    Raises: `SupplyError` when the tool fails or a package of the lock is missing.
    """
    command = [tools / "cyclonedx-py", "requirements", lock, "--pyproject", ROOT / "pyproject.toml"]
    command += ["--output-reproducible", "--spec-version", "1.6", "--validate", "--output-file", to]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SupplyError(f"cyclonedx-py failed on {lock.name}: {done.stderr.strip()}")
    return complete(json.loads(to.read_text()), lock)


def complete(bill: dict[str, Any], lock: Path) -> int:
    """The number of components. Raises: `SupplyError` when one of the lock is missing, or has another
    version."""
    listed = {(c["purl"].partition("@")[0].rpartition("/")[2], c["version"]) for c in bill["components"]}
    if missing := packages(lock) - listed:
        names = ", ".join(f"{name} {version}" for name, version in sorted(missing))
        raise SupplyError(f"not in the bill of {lock.name}: {names}")
    return len(bill["components"])
