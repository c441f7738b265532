"""The notice: a text that people are shown before they consent. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A text that people are shown before they consent. `sha256` is the digest of its UTF-8 bytes, in hex."""

    version: str
    language: str
    text: str
    sha256: str
    registered_by: str
    registered_at: datetime


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
