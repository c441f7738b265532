"""Identifiers: UUIDv7 (RFC 9562), which sort by creation time and so keep indexes compact."""

from __future__ import annotations

from uuid_utils import uuid7


def new_id() -> str:
    """A new UUIDv7 in its canonical 36-character form."""
    return str(uuid7())
