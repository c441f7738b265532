"""The token with which a service calls the others."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
from joserfc import jws
from joserfc.errors import JoseError

from services.shared.errors import TransientError


class ServiceToken:
    """The bearer token in a file, read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def current(self) -> str:
        """Raises: `TransientError` while the file cannot be read."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._seen = seen
        except (OSError, UnicodeError) as error:
            raise TransientError(f"service token: {type(error).__name__}") from None
        return self._token

    def expires_at(self) -> float:
        """Seconds since 1970 according to the token's own claim; NaN without a readable token."""
        try:
            claims = jws.extract_compact(self.current().encode()).payload
            return float(orjson.loads(claims)["exp"])
        except (TransientError, JoseError, ValueError, KeyError, TypeError):
            return math.nan
