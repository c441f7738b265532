"""Fingerprints of addresses: by them an address is found again without being stored.

A fingerprint is an HMAC under a key that the vault seals. That key never changes, or the suppression list
would no longer know anybody; a rotation of the vault's keys seals it anew. Nobody who has only the database
can try the ten billion Indian numbers against it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
from typing import Final

from services.shared.contracts.vocabulary import Channel
from services.shared.database import Database
from services.shared.encryption import Vault

COLLECTION: Final = "fingerprint_keys"
_ID: Final = "addresses"
_MOBILE: Final = re.compile(r"(?:0{0,2}91|0)?([6-9][0-9]{9})")
_LONGEST: Final = 320


def canonical(channel: str, address: str) -> str:
    """One form of an address, however a provider or a person writes it: `+919876543210`, or an e-mail in
    lower case. Numbers without a country code are Indian."""
    address = address.strip()[:_LONGEST]
    if channel == Channel.EMAIL:
        return address.casefold()
    digits = "".join(str(int(char)) for char in address if char.isdecimal())
    if not address.startswith("+") and (mobile := _MOBILE.fullmatch(digits)):
        return f"+91{mobile[1]}"
    return "+" + digits.lstrip("0")


class Fingerprints:
    """`fingerprint_keys {_id: "addresses", sealed: {key}}`: the first process that needs the key makes it."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._keys = database[COLLECTION]
        self._vault = vault
        self._keyed: hmac.HMAC | None = None
        self._making = asyncio.Lock()

    async def ready(self) -> None:
        """Read the key; afterwards `of` answers.

        Raises: `pymongo.errors.PyMongoError`.
        """
        if self._keyed is not None:
            return
        async with self._making:
            if self._keyed is None:
                self._keyed = hmac.new(await self._key(), digestmod=hashlib.sha256)

    def of(self, channel: str, address: str) -> str:
        """43 characters. A number has the same one on every channel. Await `ready` before."""
        return self._digest("email" if channel == Channel.EMAIL else "phone", canonical(channel, address))

    def of_id(self, channel: str, user_id: str) -> str:
        """The fingerprint of a channel's own id of a person, for one whose address is withheld."""
        return self._digest(f"id:{channel}", user_id)

    def _digest(self, kind: str, text: str) -> str:
        assert self._keyed is not None, "await ready() first"
        mac = self._keyed.copy()
        mac.update(f"{kind}:{text}".encode())
        return base64.urlsafe_b64encode(mac.digest()).decode().rstrip("=")

    async def _key(self) -> bytes:
        row = await self._keys.find_one({"_id": _ID})
        if row is None:
            sealed = (await self._vault.seal([(_ID, {"key": os.urandom(32)})]))[0]
            # An upsert, also when another process was first: its majority write concern waits until the key
            # is durable.
            await self._keys.update_one({"_id": _ID}, {"$setOnInsert": {"sealed": sealed}}, upsert=True)
            row = await self._keys.find_one({"_id": _ID})
            assert row is not None
        key: bytes = (await self._vault.open([(_ID, row["sealed"])]))[0]["key"]
        return key
