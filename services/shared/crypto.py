"""Encryption at rest: a `Vault` seals small documents with a data key that is itself sealed by a master key.

MongoDB's explicit client-side encryption does the work (libmongocrypt, AEAD_AES_256_CBC_HMAC_SHA_512-Random); the data
keys live in the collection `keys` of the service's database, the master keys only in its secrets. Two rotations:

- a new *master* key re-seals the data keys, and no document changes;
- a new *data* key becomes the current one, and its service seals its documents anew (`is_sealed_with` tells which).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Final, TypeVar

from bson.binary import Binary
from bson.codec_options import CodecOptions
from pydantic import AfterValidator, Base64Bytes, Field
from pymongo import IndexModel
from pymongo.encryption import ClientEncryption
from pymongo.encryption_shared import Algorithm
from pymongo.errors import DuplicateKeyError, EncryptionError, PyMongoError

from services.shared.migrations import create
from services.shared.mongo import Client, Database, Document, blocking

T = TypeVar("T")

COLLECTION: Final = "keys"
REFRESH_SECONDS: Final = 60.0
"""How long a running process may go on sealing with the data key before the newest; libmongocrypt's own cache, too."""

MASTER_KEY_BYTES: Final = 96
_NAME: Final = "data-"


def _of_the_right_length(keys: dict[str, bytes]) -> dict[str, bytes]:
    if not keys or any(len(key) != MASTER_KEY_BYTES for key in keys.values()):
        raise ValueError(f"must name at least one key, each of {MASTER_KEY_BYTES} bytes")
    return keys


MasterKeys = Annotated[dict[str, Base64Bytes], AfterValidator(_of_the_right_length), Field(repr=False)]
"""A setting: `{"<name>": "<base64 of 96 bytes>", ...}`, the current one first."""


class Vault:
    """Seals and opens documents of one service, in batches.

    `master_keys` maps a name to 96 secret bytes; the first is current, the others only open what they sealed.
    Every method raises `pymongo.errors.PyMongoError` when the key collection cannot be read.

    Raises: `ValueError` for two names that differ in punctuation only.
    """

    def __init__(self, client: Client, database: Database, master_keys: Mapping[str, bytes]) -> None:
        providers = {_provider(name): {"key": key} for name, key in master_keys.items()}
        if len(providers) < len(master_keys):
            raise ValueError("names of master keys must differ in letters or digits")
        self._master = next(iter(providers))
        self._keys = database[COLLECTION]
        self._machine: ClientEncryption[Document] = ClientEncryption(
            providers,
            f"{database.name}.{COLLECTION}",
            blocking(client),
            CodecOptions(document_class=dict, tz_aware=True),
            key_expiration_ms=0,  # a data key never changes, so one that was fetched is kept
        )
        # One thread: sealing is bound by the interpreter, so a second one would only make the first wait.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._fetched: set[Binary] = set()
        self._current: Binary | None = None
        self._look_again = 0.0

    async def seal(self, documents: Sequence[Document]) -> list[Binary]:
        """One ciphertext for each document, in order."""
        key = await self.current_key()
        how = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random

        def work() -> list[Binary]:
            return [self._machine.encrypt(document, how, key_id=key) for document in documents]

        if key in self._fetched:
            # Nothing left to wait for, only 40 us a document to compute: a thread would fight us for the interpreter.
            return work()
        sealed = await self._run(work)
        self._fetched.add(key)
        return sealed

    async def open(self, sealed: Sequence[Binary]) -> list[Document]:
        """The documents in `sealed`, in order.

        Raises: `pymongo.errors.EncryptionError` when one was tampered with or its master key is not configured.
        """
        return await self._run(lambda: [self._machine.decrypt(one) for one in sealed])

    async def current_key(self) -> Binary:
        """The id of the newest data key; the first call on a new database makes one."""
        now = time.monotonic()
        if self._current is None or now >= self._look_again:
            newest = await self._newest()
            self._current = newest[1] if newest else await self._make(1)
            self._look_again = now + REFRESH_SECONDS
        return self._current

    async def current_key_at(self) -> datetime | None:
        """When the newest data key was made; None before the first."""
        newest = await self._newest()
        row = newest and await self._keys.find_one({"_id": newest[1]}, {"creationDate": 1})
        made: datetime | None = row["creationDate"] if row else None
        return made

    async def rotate_master(self) -> int:
        """Seal every data key with the current master key; returns how many were not."""
        behind = {"masterKey.provider": {"$ne": self._master}}
        result = await self._run(lambda: self._machine.rewrap_many_data_key(behind, self._master))
        return result.bulk_write_result.modified_count if result.bulk_write_result else 0

    async def rotate_data_key(self) -> Binary:
        """Make a new data key and return its id. Other processes follow within `REFRESH_SECONDS`."""
        newest = await self._newest()
        self._current = await self._make(newest[0] + 1 if newest else 1)
        self._look_again = time.monotonic() + REFRESH_SECONDS
        return self._current

    async def close(self) -> None:
        await self._run(self._machine.close)
        self._thread.shutdown(wait=False)

    async def _newest(self) -> tuple[int, Binary] | None:
        numbered = [
            (int(name.removeprefix(_NAME)), row["_id"])
            async for row in self._keys.find({}, {"keyAltNames": 1})
            for name in row["keyAltNames"]
        ]
        return max(numbered, key=lambda each: each[0], default=None)

    async def _make(self, number: int) -> Binary:
        """The data key of this number, by whoever came first: its name is unique."""
        name = f"{_NAME}{number}"
        try:
            return await self._run(lambda: self._machine.create_data_key(self._master, key_alt_names=[name]))
        except DuplicateKeyError:
            row = await self._keys.find_one({"keyAltNames": name}, {"_id": 1})
            assert row is not None
            made_by_another: Binary = row["_id"]
            return made_by_another

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except EncryptionError as error:
            # It wraps what went wrong with the key collection, and hides that from those who retry.
            if isinstance(error.cause, PyMongoError):
                raise error.cause from error
            raise


def is_sealed_with(key: Binary, sealed: Binary) -> bool:
    """Whether `sealed` is under this data key, told without opening it.

    An encrypted value is one byte of kind, 16 of key id, the BSON type, the ciphertext (BSON binary subtype 6).
    """
    return sealed[1:17] == bytes(key)


def _provider(name: str) -> str:
    """A named KMS provider, whose name libmongocrypt limits to letters, digits and `_`."""
    return "local:" + re.sub(r"[^A-Za-z0-9]", "_", name)


async def create_key_collection(database: Database) -> None:
    """A migration step: a data key's name is unique, so that two processes cannot both make "the first"."""
    unique = IndexModel(
        "keyAltNames", unique=True, partialFilterExpression={"keyAltNames": {"$exists": True}}
    )
    await create(database, COLLECTION, indexes=[unique])
