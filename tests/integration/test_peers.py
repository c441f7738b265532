"""The client of other services against a server that answers as nobody should: no answer gets through, none
is quoted, and each call given up is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from infra.local.ports import HOST
from services.members.dossier.holders import Holders
from services.members.settings import MembersSettings
from services.shared.errors import TransientError, UnavailableError
from services.shared.peers import Peer, ServiceToken, client, peer_errors

SECRET = "+919812345678"


def answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def serving(*answers: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn, the last one again and again; None: it never answers."""
    asked: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        given = answers[min(len(asked), len(answers)) - 1]
        if given is None:
            await over.wait()
        else:
            writer.write(given)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}", asked
    finally:
        over.set()
        server.close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "service_token"
    file.write_text("a-token\n")
    return file


GOOD = answer("200 OK", b'{"member_id": "1", "placement": null}')


async def test_a_passing_fault_is_tried_again_with_the_token(token: Path) -> None:
    registry = CollectorRegistry()
    async with serving(answer("503 Busy", b""), GOOD) as (url, asked):
        peer = Peer("groups", url, ServiceToken(token), peer_errors(registry))
        assert await peer.get("/v1/members/1/holdings", "/v1") == {"member_id": "1", "placement": None}
        await peer.close()
    assert len(asked) == 2
    assert b"authorization: bearer a-token" in asked[0].lower()
    assert registry.get_sample_value("sangathan_peer_errors_total", {"peer": "groups"}) == 0


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        (answer("503 Busy", SECRET.encode()), 3),
        (answer("404 Not Found", b"{}"), 1),
        (answer("401 Unauthorized", b"{}"), 1),
        (answer("302 Found", b""), 1),
        (answer("200 OK", b"<html>" + SECRET.encode()), 1),
        (answer("200 OK", b"[]"), 1),
        (answer("200 OK", b'{"x": "' + b"x" * client.MAX_ANSWER_BYTES + b'"}'), 1),
        (b"nonsense " + SECRET.encode() + b"\r\n\r\n", 3),
        (None, 1),
    ],
)
async def test_an_answer_that_is_none_is_given_up(
    token: Path, given: bytes | None, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CALL_SECONDS", 1.0)
    registry = CollectorRegistry()
    async with serving(given) as (url, asked):
        peer = Peer("groups", url, ServiceToken(token), peer_errors(registry))
        with pytest.raises(TransientError) as raised:
            await peer.get("/v1/members/1/holdings", "/v1")
        await peer.close()
    assert len(asked) == calls
    assert SECRET not in str(raised.value)
    assert registry.get_sample_value("sangathan_peer_errors_total", {"peer": "groups"}) == 1


async def test_what_is_held_about_somebody_else_makes_no_dossier(token: Path) -> None:
    async with serving(GOOD) as (url, _):
        settings = MembersSettings.model_construct(
            service_token_file=token, groups_url=url, notifications_url=url, analytics_url=None
        )
        holders = Holders(settings, CollectorRegistry())
        with pytest.raises(UnavailableError, match="groups, notifications, analytics'"):
            await holders.held("2")
        with pytest.raises(UnavailableError, match="now: analytics'"):
            await holders.held("1")
        await holders.close()
