"""The server that every service runs, under clients that send too much, too slowly, or too much at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from starlette.responses import StreamingResponse

from infra.local.ports import HOST
from services.shared.config.settings import ServiceSettings
from services.shared.http import callers, guard
from services.shared.http.app import ServiceApp
from services.shared.http.body import Route
from services.shared.http.draining import DrainingServer, StopSignals
from services.shared.runtime.lifecycle import server_config
from tests.unit.http.conftest import things_router

HEAD = b"POST /v1/things HTTP/1.1\r\nHost: things\r\n"
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Served:
    port: int
    token: str
    registry: CollectorRegistry
    server: DrainingServer

    @property
    def authorized(self) -> bytes:
        return HEAD + f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n".encode()

    def refused(self, reason: str) -> float | None:
        return self.registry.get_sample_value("sangathan_http_refused_total", {"reason": reason})

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=15)


@pytest.fixture
def serve(make_app: Callable[..., ServiceApp], token, registry) -> Iterator[Callable[..., Served]]:
    """`serve(max_connections=40)`: the application on a port, in a thread with the loop of production."""
    stops = []

    def start(**options: object) -> Served:
        app = make_app(**options)
        settings = ServiceSettings(service="things", http_port=0)
        server = DrainingServer(server_config(app, settings), app.draining, app.guard, 0, StopSignals(60))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        stops.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return Served(server.servers[0].sockets[0].getsockname()[1], token(), registry, server)

    yield start
    for server, thread in stops:
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def answer(connection: socket.socket) -> bytes:
    """All that the server says until it closes or resets the connection."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def one_answer(connection: socket.socket) -> bytes:
    """The answer to one request on a connection that stays open."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return f"HTTP/1.1 {response.status} ".encode() + response.read()


def endless(connection: socket.socket, start: bytes, piece: bytes, most: int) -> tuple[int, bytes]:
    """Send `piece` again and again until the server refuses; how much was sent, and the answer."""
    sent = 0
    connection.sendall(start)
    connection.setblocking(False)
    deadline = time.monotonic() + 10
    while sent < most and time.monotonic() < deadline:
        try:
            sent += connection.send(piece)
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            break
        try:
            if said := connection.recv(65536):
                return sent, said
        except BlockingIOError:
            continue
        except OSError:
            break
    return sent, b""


@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        pytest.param(HEAD, b"X-Filler: " + b"x" * 1000 + b"\r\n", b"431", id="headers"),
        pytest.param(HEAD + b"X-Filler: ", b"x" * 1000, b"431", id="one_header"),
        pytest.param(b"", b"GET /" + b"x" * 1000, b"400", id="target"),
        pytest.param(b"GET /", b"x" * 1000, b"431", id="long_target"),
        pytest.param(b"", b"\r\n" * 500, b"431", id="empty_lines"),
    ],
)
def test_an_endless_head_is_cut(served: Served, start: bytes, piece: bytes, status: bytes) -> None:
    with served.connect() as connection:
        sent, said = endless(connection, start, piece, 8 * MEBIBYTE)
    assert said.split(b" ")[1] == status
    assert b"application/problem+json" in said
    assert sent < 4 * MEBIBYTE  # most of it is in the buffers of the system


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"1\r\n{\r\n0\r\n", b"X-Trailer: " + b"x" * 1000 + b"\r\n", id="trailers"),
        pytest.param(b"1\r\n{\r\n0\r\nX-Trailer: ", b"x" * 1000, id="one_trailer"),
        pytest.param(b"1\r\n{\r\n5;name=", b"x" * 1000, id="chunk_extension"),
    ],
)
def test_endless_framing_of_a_body_is_cut(served: Served, start: bytes, piece: bytes) -> None:
    with served.connect() as connection:
        head = served.authorized + b"Transfer-Encoding: chunked\r\n\r\n"
        sent, said = endless(connection, head + start, piece, 8 * MEBIBYTE)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert sent < 4 * MEBIBYTE


def test_a_head_above_the_limit_in_one_piece_is_refused(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(
            b"GET /context HTTP/1.1\r\nHost: things\r\nX-Filler: " + b"x" * 70_000 + b"\r\n\r\n"
        )
        assert answer(connection).startswith(b"HTTP/1.1 431 ")
    assert served.refused("head_too_large") == 1


def test_a_head_of_the_limit_passes_whatever_follows(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(
            b"GET /context HTTP/1.1\r\nHost: things\r\nX-Filler: " + b"x" * 65_000 + b"\r\n\r\n"
        )
        assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
        # A body in the same read as the head is not counted as head.
        body = b"x" * 200_000
        connection.sendall(b"POST /imports HTTP/1.1\r\nHost: things\r\nContent-Length: 200000\r\n\r\n" + body)
        assert b'{"bytes":200000}' in one_answer(connection)
        connection.sendall(
            b"POST /imports HTTP/1.1\r\nHost: things\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
        )
        assert b'{"bytes":3}' in one_answer(connection)


@pytest.mark.usefixtures("impatient")
def test_bad_requests_are_counted_and_not_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for garbage in (b"\x16\x03\x01\x02", b"GET\r\n\r\n", HEAD + b"Content-Length: -1\r\n\r\n"):
        with served.connect() as connection:
            connection.sendall(garbage)
            assert answer(connection).startswith(b"HTTP/1.1 400 ")
    assert served.refused("malformed") == 3
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize("request_", ["context", "chunked", "large"])
def test_requests_sent_ahead_are_all_answered_in_order(served: Served, request_: str) -> None:
    """However many: those beyond a few are parsed when there is room."""
    post = b"POST /imports HTTP/1.1\r\nHost: things\r\n"
    sent = {
        "context": b"GET /context HTTP/1.1\r\nHost: things\r\nX-Request-Id: %032x\r\n\r\n",
        "chunked": post + b"X-Request-Id: %032x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
        "large": post + b"X-Request-Id: %032x\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000,
    }[request_]
    count = 40 if request_ == "large" else 500
    with served.connect() as connection:
        sending = threading.Thread(
            target=connection.sendall, args=(b"".join(sent % n for n in range(count)),), daemon=True
        )
        sending.start()
        reader = connection.makefile("rb")
        ids: list[int] = []
        while len(ids) < count:
            line = reader.readline()
            if line.startswith(b"x-request-id: "):
                ids.append(int(line.split()[1], 16))
        sending.join(10)
    assert ids == list(range(count))
    assert served.registry.get_sample_value("sangathan_http_requests_in_flight") == 0


def test_only_a_few_requests_sent_ahead_wait_in_memory(serve) -> None:
    router = APIRouter(route_class=Route)

    @router.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(0.5)

    served = serve(routers=[router])
    with served.connect() as connection:
        connection.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 0.4
        while time.monotonic() < deadline:
            try:
                sent += connection.send(b"GET /slow HTTP/1.1\r\nHost: things\r\n\r\n" * 100)
            except BlockingIOError:
                time.sleep(0.01)
        [protocol] = served.server.server_state.connections
        assert len(protocol.pipeline) == guard.MAX_PIPELINED
        assert len(protocol._unparsed) <= MEBIBYTE // 2
        assert sent > MEBIBYTE  # the rest is in the buffers of the system


TINY = b"1\r\n \r\n" * 10_000
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

ATTACK = """
import socket, sys, threading

def attack(address, start, piece):
    while True:
        with socket.create_connection(address, timeout=0.2) as connection:
            try:
                connection.sendall(start)
                while True:
                    connection.sendall(piece)
            except OSError:
                pass

for _ in range(3):
    threading.Thread(target=attack, args=eval(sys.stdin.readline())).start()
"""
"""Three connections that send `start` and then `piece` for ever, from a process of its own."""


@pytest.mark.parametrize("attack", ["anonymous", "read", "stream", "ends_of_heads", "ahead"])
def test_no_connection_keeps_the_loop_from_the_others(served: Served, attack: str) -> None:
    stream = b"POST /imports HTTP/1.1\r\nHost: things\r\n" + CHUNKED
    start, piece = {
        "anonymous": (b"POST /nope HTTP/1.1\r\nHost: things\r\n" + CHUNKED, TINY),
        "read": (served.authorized + CHUNKED, TINY),
        "stream": (stream, TINY),
        "ends_of_heads": (stream, b"4\r\n\r\n\r\n\r\n" * 10_000),
        "ahead": (b"", b"GET / HTTP/1.1\r\n\r\n" * 3_000),
    }[attack]
    with subprocess.Popen([sys.executable, "-c", ATTACK], stdin=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdin
            attacker.stdin.write(b"%r\n" % (((HOST, served.port), start, piece),) * 3)
            attacker.stdin.flush()
            time.sleep(0.3)
            # The machine may be busy with other things: the best of a few counts.
            slowest = next(
                (found for _ in range(6) if (found := slowest_livez(served, seconds=0.4)) < 0.25), None
            )
        finally:
            attacker.kill()
    assert slowest


def slowest_livez(served: Served, seconds: float) -> float:
    """The longest wait for `/livez`, in seconds, asked again and again on new connections."""
    slowest, began = 0.0, time.monotonic()
    ends = began + seconds
    while began < ends:
        with served.connect() as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: things\r\n\r\n")
            assert one_answer(connection).startswith(b"HTTP/1.1 200 ")
        now = time.monotonic()
        slowest, began = max(slowest, now - began), now
    return slowest


def test_the_rest_of_tiny_pieces_is_short(served: Served) -> None:
    """A chunk of a byte costs what a large one costs."""
    with served.connect() as connection:
        connection.sendall(ENDLESS)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(TINY * 200)  # 12 MB


def test_a_rest_that_is_malformed_has_one_answer(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(ENDLESS + b"1\r\n \r\n")
        time.sleep(0.1)
        connection.sendall(b"no chunk\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection).count(b"HTTP/1.1 ") == 1
    assert served.refused("malformed") == 1


def test_what_the_guard_answers_has_what_every_answer_has(served: Served) -> None:
    ids = set()
    for _ in range(2):
        with served.connect() as connection:
            connection.sendall(b"GET /" + b"x" * 70_000)
            connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            response.begin()
            problem = json.loads(response.read())
        assert response.status == 431
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Type"] == "application/problem+json"
        id_ = response.headers["X-Request-Id"]
        assert problem == {
            "type": "urn:sangathan:problem:headers-too-large",
            "title": "Request Header Fields Too Large",
            "status": 431,
            "instance": f"urn:sangathan:request:{id_}",
            "request_id": id_,
        }
        ids.add(id_)
    assert len(ids) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of a second or two instead of ten and thirty."""
    monkeypatch.setattr(guard, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(guard, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(guard, "REST_SECONDS", 1.0)
    monkeypatch.setattr(guard, "UNREAD_SECONDS", 1.0)


async def drip(served: Served, start: bytes, piece: bytes, seconds: float) -> bytes:
    """Send `piece` ten times a second until the server says something or closes, or the time is over."""
    reader, writer = await asyncio.open_connection(HOST, served.port)
    said = asyncio.create_task(reader.read(65536))
    writer.write(start)
    for _ in range(int(seconds * 10)):
        await asyncio.wait([said], timeout=0.1)
        if said.done():
            break
        writer.write(piece)
    writer.close()
    if not said.done():
        said.cancel()
        return b"still open"
    return b"reset" if said.exception() else said.result()


async def all_of(served: Served, pieces: Sequence[tuple[bytes, bytes]], seconds: float) -> list[bytes]:
    return await asyncio.gather(*(drip(served, *each, seconds) for each in pieces))


@pytest.mark.usefixtures("impatient")
async def test_slow_heads_and_bodies_are_closed_and_a_slow_line_is_not(served: Served) -> None:
    json = served.authorized + b"Content-Length: 100000\r\n\r\n{"
    chunked = served.authorized + b"Transfer-Encoding: chunked\r\n\r\n"
    stream = b"POST /imports HTTP/1.1\r\nHost: things\r\nContent-Length: 1000000\r\n\r\n"
    slow = [
        (HEAD, b"X: y\r\n"),
        (b"", b"\r\n"),
        (HEAD + b"X-Long: ", b"x"),
        (json, b" "),
        (json, b""),
        (chunked, b"1\r\n \r\n"),
        (chunked + b"1;x=", b"y"),
        (stream, b"x"),
    ]
    # 20 kB a second is above the least rate, however long it takes; and sending nothing at all is no offence:
    # the connection is closed without a word.
    *said, fast, silent = await all_of(served, [*slow, (stream, b"x" * 2000), (b"", b"")], 4)
    assert [each[:13] for each in said] == [b"HTTP/1.1 408 "] * len(slow)
    assert fast == b"still open"
    assert silent == b""
    assert served.refused("head_too_slow") == 3
    assert served.refused("body_too_slow") == 5


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "piece", [b"GET /context HTTP/1.1\r\n", b"\r\n", b"POST /imports HTTP/1.1\r\nHost: "]
)
async def test_a_later_request_of_a_connection_has_no_more_time(served: Served, piece: bytes) -> None:
    reader, writer = await asyncio.open_connection(HOST, served.port)
    for _ in range(2):
        writer.write(b"GET /context HTTP/1.1\r\nHost: things\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
    writer.write(piece)
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_does_not_read_its_answers_is_cut(serve) -> None:
    router = APIRouter(route_class=Route)

    @router.get("/endless")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)

        return StreamingResponse(pieces())

    served = serve(routers=[router])
    _, writer = await asyncio.open_connection(HOST, served.port, limit=1024)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: things\r\n\r\n")
    async with asyncio.timeout(10):
        while not served.refused("unread"):  # noqa: ASYNC110 (counted by another thread)
            await asyncio.sleep(0.1)
    writer.transport.abort()


def test_a_plain_client_sees_why_its_body_is_refused(served: Served) -> None:
    """Clients that send everything before they read, as most do."""
    url = f"http://{HOST}:{served.port}"
    body = b"x" * (16 * MEBIBYTE)
    for path, headers, status in (
        ("/v1/things", {}, 413),
        ("/v1/things", {"Authorization": f"Bearer {served.token}"}, 413),
        ("/nowhere", {"Connection": "close"}, 413),
    ):
        connection = http.client.HTTPConnection(HOST, served.port, timeout=15)
        connection.request("POST", path, body, headers)
        assert connection.getresponse().status == status
        connection.close()
    with pytest.raises(urllib.error.HTTPError, match="413"):  # urllib sends Connection: close
        urllib.request.urlopen(f"{url}/v1/things", body, timeout=15)
    # Below the limit of this path, but the caller is unknown, or the type is wrong.
    half = b"x" * (MEBIBYTE // 2)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/v1/things", half, timeout=15)
    curl = subprocess.run(
        [
            *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "--data-binary", "@-"),
            *("-H", f"Authorization: Bearer {served.token}", f"{url}/v1/things"),
        ],
        input=half,
        capture_output=True,
        check=False,
    )
    assert curl.stdout == b"415", curl.stderr


LONG = HEAD + b"Content-Length: 1000000\r\n\r\n"
"""A body that is refused, whoever sends it: nobody is named."""
TOO_LONG = HEAD + b"Content-Length: 1000000000000\r\n\r\n"
ENDLESS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("start", [LONG, TOO_LONG, ENDLESS])
async def test_the_rest_of_a_refused_body_is_read_for_a_while(served: Served, start: bytes) -> None:
    """Above the least rate of a body: only its being refused ends it."""
    piece = b"7d0\r\n" + b"x" * 2000 + b"\r\n" if start == ENDLESS else b"x" * 2000
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(start)
    assert (await reader.readline()).split()[1] in (b"401", b"413")
    ended = asyncio.create_task(reader.read())
    async with asyncio.timeout(5):
        while not ended.done():
            writer.write(piece)
            await asyncio.wait([ended], timeout=0.1)
    ended.exception()
    writer.close()


@pytest.mark.parametrize("start", [TOO_LONG, ENDLESS + b"4000000\r\n"])
def test_the_rest_of_a_refused_body_is_read_up_to_a_bound(
    served: Served, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_REST_BYTES", MEBIBYTE)
    with served.connect() as connection:
        connection.sendall(start)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(b"x" * 64 * MEBIBYTE)


async def test_unfinished_bodies_of_one_caller_cost_no_other_a_slot(serve, token, monkeypatch) -> None:
    monkeypatch.setattr(callers, "MAX_UNFINISHED_BODIES", 8)
    served = serve(max_in_flight=4)
    assert post(served) == 201
    unfinished = served.authorized + b"Content-Length: 100\r\n\r\n{"
    held = []
    for _ in range(12):
        held.append(asyncio.create_task(drip(served, unfinished, b"", 2)))
        await asyncio.sleep(0.05)
    # While eight are open, twice as many as may be in progress, other callers are answered.
    assert (await asyncio.to_thread(post, replace(served, token=token(sub="user-2")))) == 201
    said = await asyncio.gather(*held)
    assert said.count(b"still open") == 8
    assert sum(each.startswith(b"HTTP/1.1 429 ") for each in said) == 4
    assert served.refused("caller_bodies") == 4
    assert served.registry.get_sample_value("sangathan_http_requests_shed_total") == 0
    await asyncio.sleep(0.1)
    assert served.registry.get_sample_value("sangathan_http_requests_in_flight") == 0


async def test_a_body_that_comes_when_every_slot_is_taken_is_shed(serve) -> None:
    router = APIRouter(route_class=Route)

    @router.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(0.5)

    served = serve(routers=[router, things_router()], max_in_flight=1)
    assert post(served) == 201
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(served.authorized + b'Content-Length: 16\r\n\r\n{"name":')
    await asyncio.sleep(0.1)
    held = asyncio.create_task(drip(served, b"GET /slow HTTP/1.1\r\nHost: things\r\n\r\n", b"", 2))
    await asyncio.sleep(0.1)
    writer.write(b' "Asha"}')
    assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")
    assert (await held).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert served.registry.get_sample_value("sangathan_http_requests_shed_total") == 1


def post(served: Served) -> int:
    connection = http.client.HTTPConnection(HOST, served.port, timeout=15)
    headers = {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/things", b'{"name": "Asha"}', headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_one_address_does_not_take_every_connection(serve) -> None:
    served = serve(max_connections=40)
    held = [served.connect() for _ in range(25)]
    refused = [each for each in held[20:] if answer(each).startswith(b"HTTP/1.1 429 ")]
    assert len(refused) == 5
    assert served.refused("connections") == 5
    held[0].sendall(b"GET /livez HTTP/1.1\r\nHost: things\r\n\r\n")
    assert one_answer(held[0]).startswith(b"HTTP/1.1 200 ")
    for each in held:
        each.close()
    assert post(served) == 201
