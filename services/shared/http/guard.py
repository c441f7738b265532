"""Bounds on what a connection may cost before its caller is known: bytes of headers, time, connections.

`GuardedProtocol` is uvicorn's protocol with bounds, written for uvicorn 0.54, whose attributes are not public
(ADR 0032 says why). tests/unit/http/test_guard.py fails when uvicorn changes them.

A request is read in phases, and each has a bound:

head    64 KiB and 10 s in all
body    30 s of patience, which bytes earn back at 8 KiB/s: a slow line may send 1 GiB, a drip may not
rest    what still comes of a body that was answered early is dropped for 5 s, up to 64 MiB, so that a client
        that sends before it reads sees its answer and not a broken pipe

One sweep a second looks at all connections, so a request starts no timer. It counts its own turns instead of
reading a clock: a process that was held up blames no client for it.

What a connection has sent is parsed in slices, and after some work the others get their turn: 256 KiB of
chunks of one byte cost 10 ms, and the loop (libuv) reads a connection that has more 32 times in a row.
"""

from __future__ import annotations

import logging
from asyncio import Handle
from enum import Enum
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.shared.http.connections import SWEEP_SECONDS, ConnectionGuard, Refused, network_of

_log = logging.getLogger("uvicorn.error.connections")
_log.setLevel(logging.ERROR)  # uvicorn warns of each bad request, without a limit: the metric counts them

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers; also the most bytes of a body's framing (chunk extensions, trailers) at once."""
MAX_PIPELINED: Final = 16
"""Requests sent ahead on a connection that still waits for an answer. More are parsed when it has come."""
SLICE_BYTES: Final = 8 * 1024
MAX_WORK: Final = 256
"""Slices and pieces of a body that one connection parses before it lets the others have the loop."""
MAX_REST_BYTES: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 256
"""A piece of a rest counts so much beside its bytes: a chunk of one byte costs as much as a large one."""
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
BODY_BYTES_PER_SECOND: Final = 8 * 1024
REST_SECONDS: Final = 5.0
UNREAD_SECONDS: Final = 60.0
"""How long an answer may wait for a client that takes none of it."""
_END_OF_HEAD: Final = b"\r\n\r\n"
"""Each request has one of its own: the parser takes no other line ends."""

BODY_CAME: Final = "sangathan.body_came"
"""Key of a request's scope: all of it had come when its application began, as is usual."""


class _Phase(Enum):
    IDLE = 0
    HEAD = 1
    BODY = 2
    REST = 3


_IDLE, _HEAD, _BODY, _REST = _Phase


_AT_ONCE: Final = frozenset({Refused.HEAD_TOO_SLOW, Refused.BODY_TOO_SLOW, Refused.CONNECTIONS})
"""Refusals after which nothing more is read: either nothing comes, or there is no room to wait for it."""


class _RefusedError(Exception):
    """Stops the parser; the protocol knows why."""


class _Lingering:
    """The transport as a request sees it whose body is still coming: its closing waits for that body."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close_when_read


class _Flow(FlowControl):
    """uvicorn's flow control, and beside it the guard's: nothing is read while either holds it up."""

    held = False

    def hold(self) -> None:
        if not self.held and not self.read_paused:
            self._transport.pause_reading()
        self.held = True

    def release(self) -> None:
        if self.held and not self.read_paused:
            self._transport.resume_reading()
        self.held = False

    def pause_reading(self) -> None:
        if self.held:
            self.read_paused = True
        else:
            super().pause_reading()

    def resume_reading(self) -> None:
        if self.held:
            self.read_paused = False
        else:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds. `guarded_by` makes the class that a server uses."""

    guard: ConnectionGuard
    flow: _Flow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _log
        self._phase = _HEAD
        self._patience = HEAD_SECONDS
        self._fruitless = 0  # bytes since the last request, head or piece of a body was complete
        self._most_fruitless = MAX_HEAD_BYTES
        self._earned = 0  # bytes of the body since the last sweep
        self._unread = 0.0
        self._unsent = 0
        self._refusal: Refused | None = None
        self._close_when_read = False
        self._unparsed = bytearray()
        self._work = 0
        self._turn: Handle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._address = network_of(self.client[0]) if self.client else ""
        if not self.guard.opened(self._address):
            self._refuse(Refused.CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.closed(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._unparsed or len(data) > SLICE_BYTES or self._begins_many(data):
            self._unparsed += data
            self._parse_slices()
        else:
            self._parse(data)
        if self._unparsed or self._work >= MAX_WORK:
            self._take_turns()

    def _begins_many(self, data: bytes) -> bool:
        """Whether more requests than may wait could begin in it."""
        return len(self.pipeline) + data.count(_END_OF_HEAD) > MAX_PIPELINED

    def _parse_slices(self) -> None:
        """Parse what has come, while it is this connection's turn: one request a slice, or what began before
        and one more."""
        while self._unparsed and self._work < MAX_WORK and len(self.pipeline) < MAX_PIPELINED:
            data = bytes(self._unparsed[:SLICE_BYTES])
            empty_lines = len(data) - len(data.lstrip(_END_OF_HEAD))
            end = data.find(_END_OF_HEAD, empty_lines)
            if end >= 0:
                data = data[: end + len(_END_OF_HEAD)]
            del self._unparsed[: len(data)]
            self._parse(data)

    def _take_turns(self) -> None:
        """Read no more before what has come is parsed: in the next turn, or after the next answer."""
        if self.transport.is_closing():
            self._unparsed.clear()
            return
        self.flow.hold()
        if self._turn is None and len(self.pipeline) < MAX_PIPELINED:
            self._turn = self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._work = 0
        if not self.transport.is_closing():
            self._parse_slices()
        if self._unparsed:
            self._take_turns()
        elif not self.transport.is_closing():
            self.flow.release()

    def _parse(self, data: bytes) -> None:
        self._work += 1
        self._fruitless += len(data)
        if self._refusal is not None:
            self._unset_keepalive_if_required()
        else:
            if self._phase is _IDLE:
                self._phase = _HEAD
                self._patience = HEAD_SECONDS
            super().data_received(data)
            if self._phase is _BODY and self.cycle.transport is self.transport:
                self.cycle.transport = _Lingering(self)  # type: ignore[assignment]
        if self._fruitless > self._most_fruitless:
            if self._phase is _REST:
                self.transport.close()
            else:
                self._refuse(Refused.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        # The bytes include what follows the head in the same read, so an exact count is rarely needed.
        if self._fruitless > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._refusal = Refused.HEAD_TOO_LARGE
            raise _RefusedError
        super().on_headers_complete()
        self._fruitless = self._earned = 0
        self._phase = _BODY
        self._patience = BODY_SECONDS

    def on_body(self, body: bytes) -> None:
        self._work += 1
        self._earned += len(body)
        if self._phase is _BODY:
            self._fruitless = 0
        else:
            self._fruitless += PIECE_BYTES
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope[BODY_CAME] = True  # type: ignore[typeddict-unknown-key]
        self._phase = _IDLE
        self._fruitless = 0
        self._most_fruitless = MAX_HEAD_BYTES
        if self._close_when_read:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is _BODY and self.cycle.response_complete:
            self._drop_the_rest()
        if self.flow.held:
            self._take_turns()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when the parser stops."""
        self._refuse(self._refusal or Refused.MALFORMED)

    def close_when_read(self) -> None:
        """Close the connection, but not before the body has come or its time is over."""
        self.pipeline.clear()
        if self._phase is _BODY or self._phase is _REST:
            self._close_when_read = True
            self._drop_the_rest()
        else:
            self.transport.close()

    def sweep(self) -> None:
        """Take a second from the patience with a client that this connection waits for."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._sweep_unread()
        elif self._phase is not _IDLE and not (self.flow.read_paused or self.flow.held):
            if self._phase is _BODY:
                earned = self._earned / BODY_BYTES_PER_SECOND
                self._patience, self._earned = min(BODY_SECONDS, self._patience + earned), 0
            self._patience -= SWEEP_SECONDS
            if self._patience < 0:
                self._give_up()

    def _sweep_unread(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._unread = self._unread + SWEEP_SECONDS if unsent == self._unsent else 0.0
        self._unsent = unsent
        if self._unread > UNREAD_SECONDS:
            self.guard.refused(Refused.UNREAD)
            self.transport.abort()

    def _give_up(self) -> None:
        if self._phase is _BODY:
            self._refuse(Refused.BODY_TOO_SLOW)
        elif self._phase is _HEAD and self._fruitless:
            self._refuse(Refused.HEAD_TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, why: Refused) -> None:
        """Tell the client why, unless an answer has begun; then read no more requests and close."""
        self._refusal = why
        self.guard.refused(why)
        cycle = self.cycle
        begun = bool(self.pipeline) or (
            cycle is not None and cycle.response_started and not cycle.response_complete
        )
        if not begun and self._phase is not _REST:  # whose answer has been sent
            self.transport.write(why.answer())
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.pipeline.clear()
        self._drop_the_rest()
        if begun or why in _AT_ONCE:
            self.transport.close()
        else:
            self.transport.write_eof()
            self._close_when_read = True

    def _drop_the_rest(self) -> None:
        if self._phase is not _REST:
            self._phase = _REST
            self._patience = REST_SECONDS
            self._fruitless, self._most_fruitless = 0, MAX_REST_BYTES
            self.flow.resume_reading()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


def guarded_by(guard: ConnectionGuard) -> type[GuardedProtocol]:
    """The protocol of a server whose connections `guard` counts."""
    return type("Guarded", (GuardedProtocol,), {"guard": guard})
