"""A dossier as a page that can be printed and handed over: headings in Hindi and English, nothing loaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

DIRECTORY: Final = Path(__file__).with_name("templates")
_STYLE: Final = (DIRECTORY / "dossier.css").read_text(encoding="utf-8")
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""The page's Content-Security-Policy: its own style and nothing else, whatever is in the data."""


class Page:
    def __init__(self) -> None:
        machine = Environment(
            loader=FileSystemLoader(DIRECTORY),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        machine.filters["time"] = _time
        self._template = machine.get_template("dossier.html.j2")

    def render(self, view: Mapping[str, Any]) -> str:
        """`view` are the values of a `DossierShown`; every text in it is escaped."""
        return self._template.render(view, view=view, style=Markup(_STYLE))  # noqa: S704 (a file of ours)


def _time(value: datetime | str | None) -> str:
    """`2026-11-27 09:30 UTC`; other services write times as RFC 3339."""
    if value is None:
        return "–"
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{moment:%Y-%m-%d %H:%M} UTC"
