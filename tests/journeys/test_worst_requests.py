"""No single request holds a service up: `/livez` answers within 250 ms while the worst of each route is sent.

The requests are made from the OpenAPI documents: for each route bodies of a mebibyte in the shapes that cost
most to parse and to check, and targets and headers near their limit.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import orjson
import pytest

from infra.local.ports import HOST
from infra.local.stack import LocalStack
from services.shared.http.body import MAX_VALUES

MOST_SECONDS = 0.25
RUNS = 3
"""The machine may be busy with other things: the best of so many runs counts."""
SHARED_EVERY = 7
"""Headers and tokens are read by the same code for every route: each day another seventh of the routes."""
FIELDS_EVERY = 3
"""Each field of a body by itself: each day another third of the routes."""
MEBIBYTE = 1024 * 1024
LINE = 60_000
"""Bytes of a target or a header, just below what all headers may have."""

MARKS = "a" + "\u0315\u0300\u05b0\u0327" * 50_000
"""Marks that NFC sorts by their class, one by one."""
JOINERS = "\u0915\u094d\u200d\u200c" * 50_000
LIKELY = (
    *("a", "BR", "01900000-0000-7000-8000-000000000000", "+919812345678"),
    *("0" * 64, "sms:" + "a" * 43, "08:30", "a" * 32, "a" * 40),
)
"""Texts, of which one fits most patterns."""
IMPORTS: dict[str, Callable[[], Iterator[bytes]]] = {
    "text/csv": lambda: iter(
        (
            b"code,level,name_en,name_hi,women_target\n" + b"a,,,,\n" * 300_000,
            b"code,level,name_en,name_hi,women_target\n" + b"a,,,,\n" * 1_000_000,
            b"code,level,name_en,name_hi,women_target\n" + b"," * 8 * MEBIBYTE,
            b"code,level,name_en,name_hi,women_target\n" + b'BR,state,"' + b"x" * 8 * MEBIBYTE,
            b"code,level,name_en,name_hi,women_target\n" + b"\n" * 30 * MEBIBYTE,
            b"code,level,name_en,name_hi,women_target\n" + _units(150_000),
            b"code,level,name_en,name_hi,women_target,predecessor\n" + _successions(100_000),
            b"code,level,name_en,name_hi,women_target,successor\nBR,,,,," + b"BR " * 20_000,
            b"\xff" * 8 * MEBIBYTE,
            b"[" + b"[]," * 10 * MEBIBYTE + b"[]]",
            b"name,phone\n" + b"a,\n" * 1_000_000,
            b"name,phone\n" + b"," * 8 * MEBIBYTE,
            b'name,phone\n"' + b"x" * 8 * MEBIBYTE,
            b"name,phone\n" + b"Asha,9812345678\n" * 300_000,
            b"name\tphone\n" + "श्री\t९८१२३४५६७८\n".encode() * 100_000,
        )
    ),
    "application/x-ndjson": lambda: iter(
        (
            b'{"name":"A","phone":"1"}\n' * 300_000,
            b"{}\n" * 3_000_000,
            b"[" * 8 * MEBIBYTE,
            b'{"name":"' + b"x" * 8 * MEBIBYTE + b'"}',
            b'{"name":' + b"9" * 8 * MEBIBYTE + b"}",
            b"{" + b'"a":1,' * MEBIBYTE + b'"b":1}',
            b"\n" * 30 * MEBIBYTE,
            b"\xff" * 8 * MEBIBYTE,
        )
    ),
}
_ROSTERS: Iterable[bytes] = (
    b"9876543210\n" * 95_000,
    b"1 1 1 1 " * (MEBIBYTE // 8),
    b"\n" * (MEBIBYTE - 1),
    MARKS.encode()[:MEBIBYTE].rpartition(b"\xcc")[0],
    "९८७६५४३२१०,".encode() * 30_000,
    b"BEGIN:VCARD\n" + b"TEL;TYPE=CELL:1\n" * 60_000,
    b"0197b8a0-0000-7000-8000-00000000000a" * 29_000,
    b"\xff" * 8 * MEBIBYTE,
)
IMPORTS |= {kind: lambda: iter(_ROSTERS) for kind in ("text/plain", "text/vcard", "text/x-vcard")}
IMPORTS["application/x-www-form-urlencoded"] = lambda: iter(
    (b"List-Unsubscribe=One-Click&" * 40_000, b"a=" + b"%41" * 300_000, b"&" * MEBIBYTE, b"x" * 8 * MEBIBYTE)
)
IMPORTS["*/*"] = lambda: iter((b"x" * 8 * MEBIBYTE, b"[" * 4 * MEBIBYTE, b"{}", b""))
"""The worst bodies of a type that is not JSON. A route that takes another fails until it has them."""


def _units(count: int) -> bytes:
    """Booths of a tree that has no root."""
    rows = (f"BR-D{n % 38}-B{n % 534}-{n},booth,Booth {n},बूथ {n},\n" for n in range(count))
    return "".join(rows).encode()


def _successions(count: int) -> bytes:
    """Units that each succeed 64 others, which there are not."""
    many = " ".join(f"BR-X{n}" for n in range(64))
    rows = (f"BR-D{n},district,D {n},जिला {n},,{many}\n" for n in range(count // 20))
    return "BR,state,Bihar,बिहार,,\n".encode() + "".join(rows).encode()


@dataclass(frozen=True)
class Sent:
    what: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def encoded(self) -> bytes:
        length = str(len(self.body))
        headers = {"host": HOST, "connection": "close", "content-length": length, **self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


class Document:
    """An OpenAPI document."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.paths = content["paths"]
        self._schemas = content["components"]["schemas"]

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema without references; of several choices the first that is not null."""
        while True:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            elif choices := [
                each for each in schema.get("anyOf", schema.get("oneOf", ())) if each.get("type") != "null"
            ]:
                schema = choices[0]
            else:
                return schema

    def example(self, schema: Mapping[str, Any]) -> Any:
        """A value of the right shape."""
        schema = self.resolved(schema)
        match schema.get("type"):
            case "object":
                properties = schema.get("properties", {})
                return {name: self.example(each) for name, each in properties.items()}
            case "array":
                return [self.example(schema["items"])]
            case "integer" | "number":
                return 1
            case "boolean":
                return True
        fitting = [each for each in LIKELY if re.fullmatch(schema.get("pattern", ".*"), each)]
        return schema.get("enum", fitting)[0]

    def bodies(self, schema: Mapping[str, Any], *, fields: bool) -> Iterator[tuple[str, bytes]]:
        """The worst bodies for this schema; with `fields` also the worst of each field."""
        schema = self.resolved(schema)
        whole = self.example(schema)
        yield "deep lists", b"[" * MEBIBYTE
        yield "deep objects", b'{"a":' * (MEBIBYTE // 5)
        for count in (MAX_VALUES - 1, 80_000):
            yield f"{count} unknown keys", orjson.dumps({f"k{n}": n for n in range(count)})
            yield f"{count} repeated keys", b"{" + b'"a":1,' * count + b'"a":1}'
        yield "digits", b'{"a":' + b"1" * (MEBIBYTE - 10) + b"}"
        for name, each in schema.get("properties", {}).items() if fields else ():
            for what, value in self._worst(each):
                yield f"{name}: {what}", orjson.dumps({**whole, name: value})

    def _worst(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        schema = self.resolved(schema)
        yield "marks", MARKS
        if schema.get("type") in ("array", "object"):
            item = self.example(schema["items"]) if "items" in schema else "a"
            for count in (schema.get("maxItems", 500), 9_000, 300_000):
                yield f"{count} items", [item] * min(count, MEBIBYTE // (len(orjson.dumps(item)) + 1))
                yield f"{count} wrong items", [{}] * count
            yield "many keys", {f"k{n}": "a" for n in range(9_000)}
            # Each text just short of the length at which it is refused unread.
            marked = dict.fromkeys(item, MARKS[:799]) if isinstance(item, dict) else MARKS[:799]
            yield "marked items", [marked] * 600
        else:
            yield "joiners", JOINERS
            yield "plain", "x" * 1_000_000
            yield "spaces", " " * 500_000 + "x" + " " * 500_000
            yield "digits", "1" * 1_000_000
            yield "list", ["x"] * 200_000

    def requests(self, path: str, method: str, token: str, *, shared: bool, fields: bool) -> Iterator[Sent]:
        """The worst of a route; with `shared` also what all routes have read by the same code, with `fields`
        also the worst of each field of its body."""
        operation = self.paths[path][method]
        auth = {"authorization": f"Bearer {token}"}
        target = path
        parameters = operation.get("parameters", [])
        for each in parameters:
            if each["in"] == "path":
                yield Sent("path", method.upper(), path.replace(f"{{{each['name']}}}", "a" * LINE), auth)
                target = target.replace(f"{{{each['name']}}}", str(self.example(each["schema"])))
        for name in [each["name"] for each in parameters if each["in"] == "query"]:
            for value in ("x" * LINE, quote(MARKS)[: LINE // 6 * 6], "1" * LINE, "%20" * (LINE // 3)):
                yield Sent(f"?{name}", method.upper(), f"{target}?{name}={value}", auth)
        if shared:
            many = "&".join(f"a{n}=" for n in range(LINE // 7))
            yield Sent("many parameters", method.upper(), f"{target}?{many}", auth)
            yield Sent("one parameter often", method.upper(), f"{target}?{'limit=1&' * (LINE // 8)}", auth)
            for name in ("Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id", "Accept", "Cookie"):
                yield Sent(name, method.upper(), target, {**auth, name: '"' + ",;=" * (LINE // 3)})
            for what, bad in hostile_tokens():
                yield Sent(what, method.upper(), target, {"authorization": f"Bearer {bad}"})
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            typed = {**auth, "content-type": kind}
            if kind == "application/json":
                for what, body in self.bodies(content["schema"], fields=fields):
                    yield Sent(what, method.upper(), target, typed, body)
            else:
                for n, body in enumerate(IMPORTS[kind]()):
                    yield Sent(f"{kind} {n}", method.upper(), target, typed, body)
                    keyed = {**typed, "idempotency-key": f"worst-{n}"}
                    yield Sent(f"{kind} {n} with a key", method.upper(), target, keyed, body)


def hostile_tokens() -> Iterator[tuple[str, str]]:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    header = part(b'{"alg":"EdDSA"}')
    yield "token of dots", "." * LINE
    yield "long token", "a" * LINE
    yield "deep header", f"{part(b'[' * 5000)}.e30.e30"
    yield "deep claims", f"{header}.{part(b'[' * 5000)}.e30"
    yield "digits in the header", part(b'{"alg":' + b"1" * 5000 + b"}") + ".e30.e30"


async def send(port: int, sent: Sent) -> int:
    """The status; 0 when the server closed without one."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(sent.encoded())
        async with asyncio.timeout(60):
            line = await reader.readline()
            await reader.read()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.transport.abort()


class Probe:
    """Asks `/livez` every 20 ms, each time on a new connection; `slowest` is the longest wait in seconds."""

    def __init__(self, port: int) -> None:
        self.slowest = 0.0
        self._port = port

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            assert await send(self._port, Sent("livez", "GET", "/livez", {})) == 200
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)


async def slowest_livez(port: int, sent: Sent) -> tuple[float, int]:
    """The slowest answer of `/livez` while the request was served, and its status."""
    probe = Probe(port)
    running = asyncio.create_task(probe.run())
    await asyncio.sleep(0)
    try:
        status = await send(port, sent)
        await asyncio.sleep(0.01)
    finally:
        running.cancel()
    # An answer still awaited counts as well: ask once more.
    began = time.monotonic()
    await send(port, Sent("livez", "GET", "/livez", {}))
    return max(probe.slowest, time.monotonic() - began), status


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", ["members", "groups", "notifications", "analytics"])
async def test_no_single_request_holds_a_service_up(stack: LocalStack, service: str) -> None:
    url = stack.urls[service]
    port = urlsplit(url).port
    assert port is not None
    document = Document(httpx2.get(f"{url}/openapi.json", trust_env=False).json())
    slow, failed = {}, {}
    routes = [(path, method) for path, operations in document.paths.items() for method in operations]
    today = datetime.now(UTC).toordinal()
    for n, (path, method) in enumerate(routes, today):
        often = {"shared": n % SHARED_EVERY == 0, "fields": n % FIELDS_EVERY == 0}
        for sent in document.requests(path, method, stack.token, **often):
            seconds = MOST_SECONDS
            for _ in range(RUNS):
                seconds, status = await slowest_livez(port, sent)
                if seconds < MOST_SECONDS:
                    break
            where = f"{method} {path}, {sent.what}"
            if seconds >= MOST_SECONDS:
                slow[where] = round(seconds, 2)
            if status >= 500:
                failed[where] = status
    assert not slow
    assert not failed
