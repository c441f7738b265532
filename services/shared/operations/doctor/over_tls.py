"""Facts collected over TLS: the certificates that the hosts present."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from services.shared.operations.doctor.access import Access
from services.shared.operations.doctor.facts import Certificate
from services.shared.operations.doctor.findings import Seen, Unseen, Verdict

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TLS endpoint. `ca_file`: the authorities to trust, by default the operating system's. `pair`: this
    client's certificate and key, if the host requires one."""

    host: str
    port: int
    ca_file: str | None = None
    pair: tuple[str, str | None] | None = None


async def certificates(access: Access) -> Seen[Sequence[Certificate]]:
    endpoints = list(dict.fromkeys(_endpoints(access)))
    if not endpoints:
        return Unseen("none of the addresses uses TLS", "in production, all of them should", Verdict.SKIPPED)
    return await asyncio.gather(*map(certificate, endpoints))


def _endpoints(access: Access) -> Iterator[Endpoint]:
    for url in [*(url for _, url in access.urls), access.jwks, access.prometheus, access.alertmanager]:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            yield Endpoint(parts.hostname, parts.port or 443)
    yield from _of_mongo(access.mongo)
    yield from _of_kafka(access)


def _of_kafka(access: Access) -> Iterator[Endpoint]:
    security = access.kafka_security
    if security.protocol.endswith("SSL"):
        pair = (str(security.cert_file), _text(security.key_file)) if security.cert_file else None
        for address in filter(None, access.kafka.split(",")):
            host, _, port = address.strip().rpartition(":")
            yield Endpoint(host, int(port), _text(security.ca_file), pair)


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _of_mongo(uri: str) -> Iterator[Endpoint]:
    try:
        parsed: dict[str, Any] = dict(parse_uri(uri)) if uri else {"nodelist": ()}
    except PyMongoError:
        return  # reported by the check of MongoDB
    options = parsed.get("options", {})
    if options.get("tls"):
        for host, port in parsed["nodelist"]:
            yield Endpoint(host, port or 27017, options.get("tlsCAFile"))


async def certificate(endpoint: Endpoint) -> Certificate:
    where = f"{endpoint.host}:{endpoint.port}"
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        if endpoint.pair:
            context.load_cert_chain(*endpoint.pair)
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
            shown = writer.get_extra_info("peercert")
            writer.close()
    except ssl.SSLCertVerificationError as error:
        return Certificate(where, fault=error.verify_message)
    except (OSError, TimeoutError) as error:
        return Certificate(where, fault=type(error).__name__)
    return Certificate(where, datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC))
