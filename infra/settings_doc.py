"""Writes docs/settings.md: every setting of every service, from the settings classes and the sentences below
their fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.analytics.settings import AnalyticsSettings
from services.groups.settings import GroupsSettings
from services.members.settings import MembersSettings
from services.notifications.settings import NotificationsSettings
from services.shared.config.settings import ServiceSettings

OF_SERVICES: dict[str, type[ServiceSettings]] = {
    "members": MembersSettings,
    "groups": GroupsSettings,
    "notifications": NotificationsSettings,
    "analytics": AnalyticsSettings,
}


def settings_md(generated: str) -> str:
    lines = [
        "# Settings",
        "",
        f"{generated} Each is an environment variable; a secret may instead be a file,",
        "named like its variable in lower case, inside the directory that `SANGATHAN_SECRETS_DIR` names.",
        *_table("Every service", ServiceSettings, set()),
    ]
    for name, settings in OF_SERVICES.items():
        lines += _table(name, settings, set(ServiceSettings.model_fields))
    return "\n".join(lines) + "\n"


def _table(title: str, settings: type[ServiceSettings], known: set[str]) -> Iterator[str]:
    rows = [_row(name, field) for name, field in settings.model_fields.items() if name not in known]
    if rows:
        yield from (
            "",
            f"## {title}",
            "",
            "| variable | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
        )


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    if not meaning:
        raise SystemExit(f"settings: {name} has no sentence that explains it")
    return f"| `SANGATHAN_{name.upper()}` | {_type(field)} | {_default(field)} | {meaning} |"


def _type(field: FieldInfo) -> str:
    text = str(field.annotation)
    if text.startswith("<class"):
        text = getattr(field.annotation, "__name__", text)
    for noise in ("typing.", "pathlib.", "datetime."):
        text = text.replace(noise, "")
    limits = [
        str(each).replace("Ge(ge=", "at least ").replace("Le(le=", "at most ").rstrip(")")
        for each in field.metadata
    ]
    shown = [limit for limit in limits if limit.startswith("at ")]
    words = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "dict": "JSON object",
        "bytes": "base64",
    }
    plain = next((word for known, word in words.items() if text.startswith(known)), None)
    if "Path" in text:
        plain = "path"
    if text.startswith("Literal"):
        plain = text.removeprefix("Literal[").rstrip("]").replace("'", "`").replace(", ", " \\| ")
    return ", ".join([plain or f"`{text}`", *shown])


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if field.default_factory is not None:
        return "made at start"
    if default is PydanticUndefined:
        return "required"
    if default in ("", None):
        return "none"
    return f"`{default}`"
