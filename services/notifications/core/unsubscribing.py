"""Links by which the receiver of an e-mail stops e-mails with one click (RFC 8058)."""

from __future__ import annotations

import hmac
import re
from typing import Final

from services.notifications.core.fingerprints import Fingerprints

PATH: Final = "/unsubscribe"
_TOKEN: Final = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([A-Za-z0-9_-]{43})", re.ASCII
)
_KIND: Final = "unsubscribe"


class UnsubscribeLinks:
    """A link names the notification by its id, signed with the key of the fingerprints: nothing personal is
    in it, and nothing of it is stored. Await `fingerprints.ready` before."""

    def __init__(self, fingerprints: Fingerprints, public_url: str) -> None:
        self._fingerprints = fingerprints
        self._public_url = public_url.rstrip("/")

    def of(self, notification_id: str) -> str | None:
        """The link; None without a public URL."""
        if not self._public_url:
            return None
        return f"{self._public_url}{PATH}/{notification_id}.{self._signature(notification_id)}"

    def read(self, token: str) -> str | None:
        """The id of the notification; None for a token that we have not made."""
        match = _TOKEN.fullmatch(token)
        if match is None or not hmac.compare_digest(self._signature(match[1]), match[2]):
            return None
        return match[1]

    def _signature(self, notification_id: str) -> str:
        return self._fingerprints.of_id(_KIND, notification_id)
