"""Sources of the keys that verify tokens: a JSON Web Key Set (RFC 7517) in a file or at a URL.

The key determines the algorithm, never the token's header (RFC 8725, 3.1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import httpx2
import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, KeyFlexible, OKPKey, RSAKey

_log = structlog.get_logger("sangathan.auth")

FETCH_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 256 * 1024
MIN_RSA_BITS = 2048

FileVersion: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class VerificationKey:
    key: KeyFlexible
    algorithm: str


class KeysUnavailable(Exception):
    """The key set cannot be read now, or is none. It says nothing about the keys known so far."""


class KeysGone(KeysUnavailable):
    """There is no file of the key set, or it is empty: somebody removed it, or is just replacing it."""


class KeySource(Protocol):
    """A source of keys, fetched every `poll_seconds`, and for an unknown key id at most every
    `retry_seconds`.

    If `is_cheap`, requests wait for the periodic fetch; otherwise it runs in the background.
    """

    is_cheap: bool
    poll_seconds: float
    retry_seconds: float

    async def fetch(self) -> Mapping[str, VerificationKey]:
        """The keys by id, none if the set is empty; the same object as before when nothing changed.

        Raises:
            KeysUnavailable: the caller should keep its present keys, for a time.
        """
        ...

    async def aclose(self) -> None: ...


class FileKeys:
    """A key set in a file, read again when it changes. Checked once a second, at the cost of one `stat`."""

    is_cheap = True
    poll_seconds = 1.0
    retry_seconds = 0.0

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: FileVersion | None = None
        self._keys: Mapping[str, VerificationKey] = {}

    async def fetch(self) -> Mapping[str, VerificationKey]:
        try:
            version = version_of(self._path)
            if version != self._seen:
                if not (document := self._path.read_bytes()):
                    raise KeysGone("the file is empty")
                self._keys = parse_keys(document)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise KeysGone(type(error).__name__) from error
        except OSError as error:
            raise KeysUnavailable(type(error).__name__) from error
        self._seen = version  # only after parsing, so that an invalid file is reported until it is replaced
        return self._keys

    async def aclose(self) -> None:
        """Nothing to close."""


class UrlKeys:
    """A key set at a URL, fetched every ten minutes and when a token names an unknown key."""

    is_cheap = False
    poll_seconds = 600.0
    retry_seconds = 30.0

    def __init__(self, url: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._client = httpx2.AsyncClient(timeout=FETCH_SECONDS, transport=transport)
        self._seen: bytes | None = None
        self._keys: Mapping[str, VerificationKey] = {}

    async def fetch(self) -> Mapping[str, VerificationKey]:
        try:
            response = await self._client.get(self._url)
            response.raise_for_status()
        except httpx2.HTTPError as error:
            raise KeysUnavailable(type(error).__name__) from error
        document = response.content
        if document != self._seen:
            self._keys = parse_keys(document)
            self._seen = document
        return self._keys

    async def aclose(self) -> None:
        await self._client.aclose()


def key_source(jwks: str) -> KeySource:
    """The source for `jwks`, a path or an http(s) URL."""
    return UrlKeys(jwks) if jwks.startswith(("http://", "https://")) else FileKeys(jwks)


def version_of(path: Path) -> FileVersion:
    """Differs when the file has changed. Raises: `OSError`."""
    stat = os.stat(path)
    # Compare the inode too: Kubernetes swaps a symbolic link, and the new file may be older.
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def parse_keys(document: bytes) -> dict[str, VerificationKey]:
    """The signing keys of a key set by key id; other keys (encryption, symmetric, weak) are skipped.

    A set without a usable key is a key set: its issuer accepts no token any more.

    Raises:
        KeysUnavailable: not a key set.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeysUnavailable("the key set is too large")
    try:
        entries = orjson.loads(document)["keys"]
    except (ValueError, TypeError, KeyError) as error:
        raise KeysUnavailable("not a key set") from error
    if not isinstance(entries, list):
        raise KeysUnavailable("not a key set")
    return dict(filter(None, map(_usable, entries)))


def _usable(entry: object) -> tuple[str, VerificationKey] | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        _log.warning("a key of the key set was passed over", reason=type(error).__name__)
        return None
    algorithm = _algorithm(key)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    key.ensure_kid()
    return str(key.kid), VerificationKey(key, algorithm)


def _algorithm(key: object) -> str | None:
    match key:
        case OKPKey(curve_name="Ed25519"):
            return "EdDSA"
        case ECKey(curve_name="P-256"):
            return "ES256"
        case RSAKey() if key.public_key.key_size >= MIN_RSA_BITS:
            return "RS256"
        case _:
            return None
