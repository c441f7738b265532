"""The locks: everything that may ever be installed, each package at one version with its hashes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def locks(root: Path = ROOT) -> dict[str, Path]:
    """Locks by name: `sangathan` is the checkout's, `sangathan-<image>` an image's; then those of the
    tools."""
    images = sorted((root / "infra" / "docker" / "requirements").glob("*.lock"))
    return {
        "sangathan": root / "requirements.lock",
        **{f"sangathan-{lock.stem}": lock for lock in images},
        "journeys-clients": root / "tests" / "journeys" / "clients.lock",
        "bench-peers": root / "tests" / "bench" / "peers.lock",
        "k8s-schemas": root / "infra" / "k8s" / "schemas" / "requirements.lock",
        "supply-tools": root / "infra" / "supply" / "tools.lock",
    }


def packages(lock: Path) -> set[tuple[str, str]]:
    """Package names, normalised (PEP 503), with their versions; includes those of other platforms."""
    return {(_normal(name), version) for name, version in _PIN.findall(lock.read_text())}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
