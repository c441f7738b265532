"""Signed links to the page (JWS, RFC 7515): a forged or expired one is refused without a look into MongoDB.

The keys are derived from the service's master keys, so a link works until it expires although the first
master key has changed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from services.shared.clock import Clock

AUDIENCE: Final = "group-admins"
MAX_TOKEN: Final = 512
_PURPOSE: Final = b"sangathan group admins' page"


class PageTokens:
    def __init__(self, master_keys: Mapping[str, bytes], clock: Clock) -> None:
        self._secrets = [hmac.digest(key, _PURPOSE, "sha256") for key in master_keys.values()]
        self._keys = [OctKey.import_key(secret) for secret in self._secrets]
        self._clock = clock

    def sign(self, page_id: str, expires_at: datetime) -> str:
        claims = {"jti": page_id, "aud": AUDIENCE, "exp": int(expires_at.timestamp())}
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0], algorithms=["HS256"])

    def read(self, token: str) -> str | None:
        """The id of the page; None for a link that we did not sign, or that has expired."""
        if len(token) > MAX_TOKEN:
            return None
        for key in self._keys:
            try:
                claims = jwt.decode(token, key, algorithms=["HS256"]).claims
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
            expires, page = claims.get("exp"), claims.get("jti")
            alive = isinstance(expires, int) and expires > self._clock.now().timestamp()
            return page if claims.get("aud") == AUDIENCE and alive and isinstance(page, str) else None
        return None

    def form_token(self, page_id: str) -> str:
        """The token that every form of a page sends back."""
        return _form_token(self._secrets[0], page_id)

    def is_form_token(self, page_id: str, sent: str) -> bool:
        tokens = (_form_token(secret, page_id) for secret in self._secrets)
        return any(hmac.compare_digest(token.encode(), sent.encode()) for token in tokens)


def _form_token(secret: bytes, page_id: str) -> str:
    return hmac.new(secret, f"form {page_id}".encode(), hashlib.sha256).hexdigest()
