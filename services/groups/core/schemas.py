"""Types that the HTTP schemas of several features share."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from services.shared.http.body import Body
from services.shared.http.values import Canonical
from services.shared.text import Name, clean, refuse

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$"), Canonical]

MAX_LINK: Final = 300
_URL: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")  # RFC 3986, 2


def _cleaned(value: object) -> object:
    """As all text: links are pasted from chats, with the invisible characters around them."""
    return clean(value) if isinstance(value, str) and len(value) <= 4 * MAX_LINK else value


def _invite_link(value: str) -> str:
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme != "https" or parts.username or not _URL.fullmatch(value):
        raise refuse("must be an https link")
    return value


InviteLink = Annotated[
    str, Field(max_length=MAX_LINK), AfterValidator(_invite_link), BeforeValidator(_cleaned)
]


class UnitName(Body):
    """A unit's or group's name in both scripts."""

    en: Name
    hi: Name
