"""Encryption at rest: a `Vault` seals small documents, each bound to the id of the document that stores it.

Three keys form an envelope. A *master* key, known only from the service's secrets, seals *data* keys
(collection `keys`). A data key seals one *content* key (collection `content_keys`). Both use MongoDB's
explicit client-side encryption. The content key seals documents by AES-256-GCM. Two rotations:

- a new *master* key re-seals the data keys, and no document changes;
- a new *data* key, with its own content key, becomes the current one, and its service seals its documents
  anew (`is_sealed_with` tells which are done).

Nonces are random, so a content key may seal 2^32 documents (NIST SP 800-38D, 8.3); before that, rotate the
data key.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Final, TypeVar

import bson
from bson.binary import USER_DEFINED_SUBTYPE, UUID_SUBTYPE, Binary
from bson.codec_options import CodecOptions
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import AfterValidator, Base64Bytes, Field
from pymongo import IndexModel, ReturnDocument
from pymongo.encryption import ClientEncryption
from pymongo.encryption_shared import Algorithm
from pymongo.errors import DuplicateKeyError, EncryptionError, PyMongoError
from pymongo.read_concern import ReadConcern

from services.shared.database import Client, Database, Document, blocking, create

T = TypeVar("T")

COLLECTION: Final = "keys"
CONTENT_KEYS: Final = "content_keys"
"""`{_id: data key's id, sealed: content key}`. A separate collection, because libmongocrypt rejects a key
document with a field that it does not know."""

REFRESH_SECONDS: Final = 60.0
"""How long a running process may keep sealing with the previous data key after a rotation."""

MASTER_KEY_BYTES: Final = 96
_NAME: Final = "data-"
_FORM: Final = b"\x80"
_KEY_END: Final = 17
_NONCE_END: Final = 29
"""Layout of a sealed document: 1 byte of format, 16 of data key id, 12 of nonce, then the ciphertext with its
16-byte tag."""
OVERHEAD: Final = _NONCE_END + 16
"""Bytes by which a ciphertext is longer than what was sealed."""

_LIBMONGOCRYPT: Final = 6
"""BSON binary subtype of values that libmongocrypt sealed (BSON specification: "encrypted BSON value")."""

_READABLE: Final = CodecOptions(document_class=dict, tz_aware=True)


def _usable(keys: dict[str, bytes]) -> dict[str, bytes]:
    if not keys or any(len(key) != MASTER_KEY_BYTES for key in keys.values()):
        raise ValueError(f"must name at least one key, each of {MASTER_KEY_BYTES} bytes")
    if len({_provider(name) for name in keys}) < len(keys):
        raise ValueError("names of master keys must differ in letters or digits")
    return keys


MasterKeys = Annotated[dict[str, Base64Bytes], AfterValidator(_usable), Field(repr=False)]
"""Master keys as a setting: `{"<name>": "<base64 of 96 bytes>", ...}`. The first is current; the others only
open older data keys."""


class Vault:
    """Seals and opens documents of one service, in batches.

    `master_keys` maps names to 96 secret bytes each. The first is current; the others only open the data keys
    they sealed. Every method raises `pymongo.errors.PyMongoError` when a key collection cannot be read.
    """

    def __init__(self, client: Client, database: Database, master_keys: Mapping[str, bytes]) -> None:
        providers = {_provider(name): {"key": key} for name, key in master_keys.items()}
        self._master = next(iter(providers))
        # libmongocrypt reads with majority concern: it would report a key still being written by another
        # process as missing.
        self._keys = database[COLLECTION].with_options(read_concern=ReadConcern("majority"))
        self._content_keys = database[CONTENT_KEYS]
        self._machine: ClientEncryption[Document] = ClientEncryption(
            providers, f"{database.name}.{COLLECTION}", blocking(client), _READABLE
        )
        # One thread, so that the machine is never closed during a call.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._ciphers: dict[bytes, AESGCM] = {}
        self._current: Binary | None = None
        self._refresh_at = 0.0

    async def seal(self, documents: Iterable[tuple[str, Document]]) -> list[Binary]:
        """One ciphertext for each `(owner, document)`, in order. `owner` is the id of the document that will
        store it."""
        key = bytes(await self.current_key())
        cipher = await self._cipher(key)
        return [_seal(cipher, key, owner, document) for owner, document in documents]

    async def open(self, sealed: Iterable[tuple[str, Binary]]) -> list[Document]:
        """The document in each `(owner, ciphertext)`, in order.

        Raises: `pymongo.errors.EncryptionError` when a ciphertext was tampered with or belongs to another
        owner, or when its master key is not configured.
        """
        return [await self._open(owner, one) for owner, one in sealed]

    async def seal_bytes(self, owner: str, content: bytes) -> bytes:
        """The ciphertext of any bytes, `OVERHEAD` longer than they are."""
        key = bytes(await self.current_key())
        return _seal_bytes(await self._cipher(key), key, owner, content)

    async def open_bytes(self, owner: str, sealed: bytes) -> bytes:
        """The bytes that `seal_bytes` sealed.

        Raises: `pymongo.errors.EncryptionError`, as `open` does.
        """
        return _open_bytes(await self._cipher(sealed[1:_KEY_END]), owner, sealed)

    async def current_key(self) -> Binary:
        """The id of the newest data key; the first call on a new database makes one."""
        now = time.monotonic()
        if self._current is None or now >= self._refresh_at:
            newest = await self._newest()
            self._current = newest[1] if newest else await self._make(1)
            self._refresh_at = now + REFRESH_SECONDS
        return self._current

    async def current_key_at(self) -> datetime | None:
        """When the newest data key was made; None before the first."""
        newest = await self._newest()
        row = newest and await self._keys.find_one({"_id": newest[1]}, {"creationDate": 1})
        made: datetime | None = row["creationDate"] if row else None
        return made

    async def rotate_master(self) -> int:
        """Seal every data key with the current master key. Returns the number of keys changed."""
        behind = {"masterKey.provider": {"$ne": self._master}}
        result = await self._run(lambda: self._machine.rewrap_many_data_key(behind, self._master))
        return result.bulk_write_result.modified_count if result.bulk_write_result else 0

    async def rotate_data_key(self) -> Binary:
        """Create a new data key and return its id. Other processes use it within `REFRESH_SECONDS`."""
        newest = await self._newest()
        self._current = await self._make(newest[0] + 1 if newest else 1)
        self._refresh_at = time.monotonic() + REFRESH_SECONDS
        return self._current

    async def close(self) -> None:
        await self._run(self._machine.close)
        self._thread.shutdown(wait=False)

    async def _open(self, owner: str, sealed: Binary) -> Document:
        if sealed.subtype == _LIBMONGOCRYPT:
            # Sealed by libmongocrypt, before content keys existed; not bound to its owner.
            document: Document = await self._run(lambda: self._machine.decrypt(sealed))
            return document
        return _open(await self._cipher(sealed[1:_KEY_END]), owner, sealed)

    async def _cipher(self, key: bytes) -> AESGCM:
        """The cipher of this data key's content key. The first process that needs the content key creates
        it."""
        if key not in self._ciphers:
            candidate = await self._run(lambda: self._seal_key(os.urandom(32), key))
            # An upsert, although the row usually exists: its majority write concern waits until the row is
            # durable.
            row = await self._content_keys.find_one_and_update(
                {"_id": Binary(key, UUID_SUBTYPE)},
                {"$setOnInsert": {"sealed": candidate}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
            self._ciphers[key] = AESGCM(await self._run(lambda: self._machine.decrypt(row["sealed"])))
        return self._ciphers[key]

    def _seal_key(self, content_key: bytes, key: bytes) -> Binary:
        how = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random
        return self._machine.encrypt(content_key, how, key_id=Binary(key, UUID_SUBTYPE))

    async def _newest(self) -> tuple[int, Binary] | None:
        numbered = [
            (int(name.removeprefix(_NAME)), row["_id"])
            async for row in self._keys.find({}, {"keyAltNames": 1})
            for name in row["keyAltNames"]
        ]
        return max(numbered, key=lambda each: each[0], default=None)

    async def _make(self, number: int) -> Binary:
        """The data key of this number, created by whichever process was first: its name is unique."""
        name = f"{_NAME}{number}"
        try:
            return await self._run(lambda: self._machine.create_data_key(self._master, key_alt_names=[name]))
        except DuplicateKeyError:
            # Changes nothing: its majority write concern waits until the row is durable.
            same = {"$set": {"keyAltNames": [name]}}
            row = await self._keys.find_one_and_update({"keyAltNames": name}, same, {"_id": 1})
            assert row is not None
            made_by_another: Binary = row["_id"]
            return made_by_another

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except EncryptionError as error:
            # EncryptionError wraps faults of the key collection, which `classify` must see.
            if isinstance(error.cause, PyMongoError):
                raise error.cause from error
            raise


def is_sealed_with(key: Binary, sealed: Binary) -> bool:
    """Whether `sealed` uses the content key of this data key. Does not open it."""
    return sealed[:_KEY_END] == _FORM + key


def _seal(cipher: AESGCM, key: bytes, owner: str, document: Document) -> Binary:
    return Binary(_seal_bytes(cipher, key, owner, bson.encode(document)), USER_DEFINED_SUBTYPE)


def _seal_bytes(cipher: AESGCM, key: bytes, owner: str, content: bytes) -> bytes:
    head, nonce = _FORM + key, os.urandom(_NONCE_END - _KEY_END)
    return head + nonce + cipher.encrypt(nonce, content, head + owner.encode())


def _open(cipher: AESGCM, owner: str, sealed: bytes) -> Document:
    """Raises: `EncryptionError`."""
    return bson.decode(_open_bytes(cipher, owner, sealed), _READABLE)


def _open_bytes(cipher: AESGCM, owner: str, sealed: bytes) -> bytes:
    """Raises: `EncryptionError`."""
    head, nonce = sealed[:_KEY_END], sealed[_KEY_END:_NONCE_END]
    try:
        return cipher.decrypt(nonce, sealed[_NONCE_END:], head + owner.encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
        raise EncryptionError(error) from error


def _provider(name: str) -> str:
    """The name of a KMS provider: libmongocrypt allows only letters, digits and `_` in it."""
    return "local:" + re.sub(r"[^A-Za-z0-9]", "_", name)


async def create_key_collection(database: Database) -> None:
    """A migration step. A data key's name is unique, so that two processes cannot both create "the first"."""
    unique = IndexModel(
        "keyAltNames", unique=True, partialFilterExpression={"keyAltNames": {"$exists": True}}
    )
    await create(database, COLLECTION, indexes=[unique])
