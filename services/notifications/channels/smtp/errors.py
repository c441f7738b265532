"""Replies of SMTP servers by what they mean.

Source: RFC 5321, 4.2.3 (reply codes), RFC 7504 (521, 556), RFC 3463 and IANA's registry of enhanced status
codes. An enhanced code (`5.1.1`) says more than the reply's own (550), so it is looked up first. A server's
text is not read beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from services.notifications.core.domain import Meaning
from services.notifications.core.providers import ProviderError

_BUSY: Final = ProviderError(Meaning.RETRY, "provider_busy")
_UNDELIVERABLE: Final = ProviderError(Meaning.RECIPIENT, "undeliverable")
_NO_ACCESS: Final = ProviderError(Meaning.CHANNEL, "no_access")
_BUG: Final = ProviderError(Meaning.BUG, "bad_request")
_REFUSED: Final = ProviderError(Meaning.MESSAGE, "refused")
_SENDER: Final = ProviderError(Meaning.NUMBER, "number_stopped")

BY_ENHANCED: Final[Mapping[str, ProviderError]] = {
    **dict.fromkeys(("1.1", "1.2", "1.3", "1.6", "1.10"), _UNDELIVERABLE),  # no such mailbox or domain, moved
    **dict.fromkeys(("2.1", "2.2"), _UNDELIVERABLE),  # switched off, full
    "2.3": _REFUSED,  # too long for this mailbox
    "3.4": _REFUSED,  # too big
    **dict.fromkeys(("1.7", "1.8", "7.27"), _SENDER),  # the sender's address or domain is refused
    **dict.fromkeys(("7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26"), _SENDER),  # DKIM, SPF, PTR
    **dict.fromkeys(("7.8", "7.9", "7.14"), _NO_ACCESS),
}
"""By the subject and the detail of an enhanced code of class 5."""
BY_REPLY: Final[Mapping[int, ProviderError]] = {
    421: _BUSY,
    450: _BUSY,
    451: _BUSY,
    452: _BUSY,
    454: _BUSY,
    **dict.fromkeys((500, 501, 502, 503, 504, 555), _BUG),
    **dict.fromkeys((530, 534, 535, 538), _NO_ACCESS),
    **dict.fromkeys((521, 550, 551, 553, 556), _UNDELIVERABLE),
    552: _UNDELIVERABLE,  # over quota
    554: _REFUSED,
}
_ENHANCED: Final = re.compile(r"\s*([245])\.(\d{1,3}\.\d{1,3})\b", re.ASCII)


def error_of(reply: int, text: str, *, of_sender: bool = False) -> ProviderError:
    """The meaning of a reply that refuses. `of_sender`: it answered the sender's address, which no recipient
    can help."""
    found = _ENHANCED.match(text[:40])
    if reply >= 500 and found and found[1] == "5" and found[2] in BY_ENHANCED:
        return BY_ENHANCED[found[2]]
    error = BY_REPLY.get(reply) or (_BUSY if reply < 500 else _REFUSED)
    return _SENDER if of_sender and error in (_UNDELIVERABLE, _REFUSED) else error
