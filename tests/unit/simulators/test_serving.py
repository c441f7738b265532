"""The HTTP server: uvicorn's protocol without its server, and connections that break."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from infra.simulators.callbacks import Callback, CallbackFailedError, CallbackSender, Retries, request_once
from infra.simulators.serving import MAX_BODY, Break, Hang, HttpServer, body_of
from tests.unit.simulators.conftest import Receiver


async def test_it_listens_on_this_machine_and_stops_with_requests_that_hang(
    client: httpx2.AsyncClient,
) -> None:
    async def hang(_: Request) -> Response:
        return Hang()

    async with HttpServer(Router([Route("/", hang)])) as server:
        assert server.url.startswith("http://127.0.0.1:")
        hanging = asyncio.create_task(client.get(server.url))
        await asyncio.sleep(0.05)
        assert not hanging.done()
    with pytest.raises(httpx2.TransportError):
        await hanging
    with pytest.raises(httpx2.ConnectError):
        await client.get(server.url)


async def test_a_reset_and_a_close_look_different(client: httpx2.AsyncClient) -> None:
    async def broken(request: Request) -> Response:
        return Break(reset=request.url.path == "/reset")

    async with HttpServer(Router([Route("/{how}", broken)])) as server:
        with pytest.raises(httpx2.ReadError):
            await client.get(f"{server.url}/reset")
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"{server.url}/close")


async def test_a_body_is_bounded(client: httpx2.AsyncClient) -> None:
    async def echo(request: Request) -> Response:
        try:
            return Response(str(len(await body_of(request))))
        except ValueError:
            return Response(b"", 413)

    async with HttpServer(Router([Route("/", echo, methods=["POST"])])) as server:
        assert (await client.post(server.url, content=b"x" * MAX_BODY)).text == str(MAX_BODY)
        assert (await client.post(server.url, content=b"x" * (MAX_BODY + 1))).status_code == 413


async def test_callbacks_survive_a_receiver_that_closes_hangs_or_talks_nonsense(receiver: Receiver) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    nonsense = await asyncio.start_server(serve, "127.0.0.1", 0)
    silent = await asyncio.start_server(lambda r, w: asyncio.sleep(30), "127.0.0.1", 0)
    sender = CallbackSender(Retries((0.0,), timeout=0.1, accepted={200}), connections=1)
    sender.start()
    try:
        for server in (nonsense, silent):
            port = server.sockets[0].getsockname()[1]
            sender.send(Callback("POST", f"http://127.0.0.1:{port}/", ()))
        sender.send(Callback("POST", "http://127.0.0.1:1/", ()))
        sender.send(Callback("POST", receiver.url, (), b"hello"))
        await asyncio.wait_for(sender.idle(), 10)
    finally:
        await sender.stop()
        nonsense.close()
        silent.close()
    assert (sender.accepted, sender.given_up, sender.statuses) == (1, 3, {0: 6, 200: 1})
    assert [got.body for got in receiver.got] == [b"hello"]


async def test_a_rate_is_kept(receiver: Receiver) -> None:
    sender = CallbackSender(Retries((), timeout=5, accepted={200}), per_second=100)
    loop = asyncio.get_running_loop()
    sender.start()
    began = loop.time()
    for _ in range(20):
        sender.send(Callback("POST", receiver.url, ()))
    await sender.idle()
    await sender.stop()
    assert loop.time() - began >= 0.18
    assert 0 < sender.slowest(0.5) <= sender.slowest(0.99)


async def test_one_request_and_no_other_machine(receiver: Receiver) -> None:
    assert await request_once("GET", receiver.url) == (200, b"")
    with pytest.raises(CallbackFailedError):
        await request_once("GET", "http://192.0.2.1/")
    sender = CallbackSender(Retries((), timeout=1, accepted={200}))
    assert not sender.send(Callback("POST", "http://sangathan.example/", ()))
    assert sender.refused_hosts == 1
