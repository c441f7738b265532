"""The promises of a release: its events and the APIs of its services, kept in `released/<version>/`.

`make freeze` keeps today's as those of the version in pyproject.toml. Kept files never change.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from infra.composed import composed_services
from services.shared.contracts.catalogue import EVENTS

RELEASED = Path(__file__).parent / "released"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


APPS: dict[str, FastAPI] = {name: service.app for name, service in composed_services().items()}
"""The real applications, which connect to nothing until they are started."""


def events() -> dict[str, Any]:
    """Events as `event_breaks` takes them: a field with a default is always written, and optional when
    read."""
    return {
        event.event_type: {
            "topic": event.topic,
            "subject": event.subject_field,
            "written": event.model_json_schema(mode="serialization"),
            "read": event.model_json_schema(mode="validation"),
        }
        for event in EVENTS
    }


def today() -> dict[str, Any]:
    """Documents by file name without `.json`: `events`, and the OpenAPI document of each service."""
    return {"events": events(), **{name: app.openapi() for name, app in APPS.items()}}


def versions() -> list[str]:
    """Released versions, oldest first."""
    return sorted((path.name for path in RELEASED.iterdir()), key=lambda v: [int(n) for n in v.split(".")])


def kept(version: str) -> dict[str, Any]:
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (RELEASED / version).glob("*.json")
    }


def freeze(directory: Path, version: str) -> None:
    """Keep today's documents. Raises: `FileExistsError` when this version has been kept already."""
    home = directory / version
    home.mkdir(parents=True)
    for name, content in today().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
        (home / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    this = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    try:
        freeze(RELEASED, this)
    except FileExistsError:
        sys.exit(f"error: {this} is released already; raise the version in pyproject.toml first")
    print(f"kept what {this} promises in {RELEASED.relative_to(PROJECT.parent)}/{this}")
