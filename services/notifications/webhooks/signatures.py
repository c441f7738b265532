"""How a callback proves where it comes from. Pure; every comparison takes the same time whatever differs."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_SCHEME: Final = "sha256="
_LONGEST_HEADER: Final = len(_SCHEME) + 64


def is_signed(body: bytes, header: str | None, secret: str) -> bool:
    """Whether `X-Hub-Signature-256` is the HMAC-SHA256 of the raw bytes, in hexadecimal."""
    if header is None or len(header) != _LONGEST_HEADER or not header.startswith(_SCHEME):
        return False
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(header.encode("latin-1", "replace"), f"{_SCHEME}{expected}".encode())


def same_secret(said: str, secret: str) -> bool:
    return hmac.compare_digest(said.encode("utf-8", "replace"), secret.encode())


def callback_id(source: str, body: bytes) -> str:
    """The same body from the same source is the same callback."""
    digest = hashlib.sha256(source.encode() + b"\0")
    digest.update(body)
    return digest.hexdigest()
