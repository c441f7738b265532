"""An SMTP server's side of one connection (RFC 5321), with the failures of a bad day.

Written here because what a test needs is not what a library offers: to hang, or to break the line, before or
after the message was taken. aiosmtpd was looked at (1.4.6 of May 2024, no release since): its handlers cannot
keep an accepted message's reply back.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

log = logging.getLogger(__name__)

MAX_LINE: Final = 4_096
MAX_SIZE: Final = 10 * 2**20
"""Bytes of a mail; the EHLO answer says so (SIZE)."""
MAX_RECIPIENTS: Final = 100
_PATH: Final = re.compile(r"(?:FROM|TO):\s*<([^<>]*)>((?:\s+\S+)*)\s*\Z", re.IGNORECASE)
Reply = tuple[int, str]


class Verdict(Protocol):
    """How a finished transaction ends: `reply` None breaks or hangs the line."""

    reply: Reply | None
    latency: float
    hang: bool
    reset: bool


class Rules(Protocol):
    """Decisions of the simulator that a connection asks for."""

    hostname: str
    tls: ssl.SSLContext | None
    user: str | None
    password: str

    def on_connect(self) -> Reply | None: ...

    def on_recipient(self, session: Session, address: str) -> Reply | None: ...

    def on_data(self, session: Session, raw: bytes) -> Verdict: ...


class Session(asyncio.Protocol):
    """One connection. Commands that wait, such as a slow answer, hold the next ones back."""

    def __init__(self, rules: Rules, sessions: set[Session]) -> None:
        self.rules = rules
        self.over_tls = False
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.memory: dict[str, object] = {}
        """Notes of the simulator on this transaction."""
        self._sessions = sessions
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._data: bytearray | None = None
        self._login: list[bytes] | None = None
        self._wants_login = False
        self._greeted = self._known = self._too_big = False
        self._busy: asyncio.Task[None] | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.over_tls:
            return
        self._sessions.add(self)
        refusal = self.rules.on_connect()
        self._say(refusal or (220, f"{self.rules.hostname} ESMTP simulator"))
        if refusal:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sessions.discard(self)
        if self._busy:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def eof_received(self) -> bool:
        return False

    def abort(self, *, reset: bool = False) -> None:
        """Break the line, with RST if `reset`."""
        if self._transport is None:
            return
        if reset and (line := self._transport.get_extra_info("socket")) is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # Lines.

    def _read(self) -> None:
        while self._busy is None and self._transport is not None and not self._transport.is_closing():
            if self._data is not None:
                if not self._read_data():
                    return
                continue
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > MAX_LINE:
                    self._buffer.clear()
                    self._say((500, "5.5.2 Line too long"))
                return
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._command(line)

    def _read_data(self) -> bool:
        assert self._data is not None
        if not self._data and self._buffer.startswith(b".\r\n"):
            end, width = 0, 3
        else:
            end, width = self._buffer.find(b"\r\n.\r\n"), 5
        if end < 0:  # keep what may be the beginning of the end
            kept = max(0, len(self._buffer) - 4)
            self._collect(bytes(self._buffer[:kept]))
            del self._buffer[:kept]
            return False
        self._collect(bytes(self._buffer[: end + 2] if width == 5 else b""))
        del self._buffer[: end + width]
        raw, self._data = bytes(self._data), None
        if self._too_big:
            self._reset()
            self._say((552, "5.3.4 Message size exceeds fixed limit"))
            return True
        lines = raw.replace(b"\r\n..", b"\r\n.")
        self._finish(lines[1:] if lines.startswith(b"..") else lines)
        return True

    def _collect(self, data: bytes) -> None:
        assert self._data is not None
        if len(self._data) + len(data) > MAX_SIZE:
            self._too_big = True
            self._data = self._data[-4:]
        self._data += data

    def _finish(self, raw: bytes) -> None:
        verdict = self.rules.on_data(self, raw)
        self._reset()
        if verdict.reply is not None and not verdict.latency:
            self._say(verdict.reply)
            return

        async def later() -> None:
            if verdict.latency:
                await asyncio.sleep(verdict.latency)
            if verdict.hang:
                await asyncio.Event().wait()
            if verdict.reply is None:
                self.abort(reset=verdict.reset)
            else:
                self._say(verdict.reply)

        self._wait(later)

    def _wait(self, work: Callable[[], Awaitable[None]]) -> None:
        """Hold further commands back until `work` is done."""

        async def run() -> None:
            await work()
            self._busy = None
            self._read()

        self._busy = asyncio.create_task(run())

    def hang(self) -> None:
        """Answer nothing more."""

        async def forever() -> None:
            await asyncio.Event().wait()

        self._wait(forever)

    def _say(self, reply: Reply, *more: str) -> None:
        assert self._transport is not None
        code, text = reply
        lines = [text, *more]
        said = "".join(
            f"{code}{' ' if place == len(lines) - 1 else '-'}{line}\r\n" for place, line in enumerate(lines)
        )
        self._transport.write(said.encode())

    # Commands.

    def _command(self, line: bytes) -> None:  # noqa: PLR0912 - one case for each verb
        if self._login is not None:
            self._answer_login(line)
            return
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self._say((500, "5.5.2 Not UTF-8"))
            return
        verb, _, rest = text.partition(" ")
        match verb.upper():
            case "EHLO":
                self._greeted = True
                self._reset()
                self._say((250, self.rules.hostname), *self._extensions())
            case "HELO":
                self._greeted = True
                self._reset()
                self._say((250, self.rules.hostname))
            case "MAIL":
                self._mail(rest)
            case "RCPT":
                self._rcpt(rest)
            case "DATA":
                if not self.recipients:
                    self._say((554, "5.5.1 No valid recipients"))
                else:
                    self._data, self._too_big = bytearray(), False
                    self._say((354, "End data with <CR><LF>.<CR><LF>"))
            case "RSET":
                self._reset()
                self._say((250, "2.0.0 OK"))
            case "NOOP":
                self._say((250, "2.0.0 OK"))
            case "VRFY":
                self._say((252, "2.5.2 Cannot VRFY user, but will accept message"))
            case "STARTTLS":
                self._start_tls()
            case "AUTH":
                self._auth(rest)
            case "QUIT":
                self._say((221, "2.0.0 Bye"))
                assert self._transport is not None
                self._transport.close()
            case _:
                self._say((500, "5.5.1 Command unrecognized"))

    def _extensions(self) -> list[str]:
        tls = ["STARTTLS"] if self.rules.tls and not self.over_tls else []
        auth = (
            ["AUTH PLAIN LOGIN"]
            if self.rules.user is not None and (self.over_tls or not self.rules.tls)
            else []
        )
        return [f"SIZE {MAX_SIZE}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES", *tls, *auth]

    def _mail(self, rest: str) -> None:
        path = _PATH.match(rest)
        size = re.search(r"\bSIZE=(\d{1,12})\b", rest, re.IGNORECASE)
        if not self._greeted:
            self._say((503, "5.5.1 Send EHLO first"))
        elif self.rules.user is not None and not self._known:
            self._say((530, "5.7.0 Authentication required"))
        elif self.sender is not None:
            self._say((503, "5.5.1 Nested MAIL command"))
        elif path is None:
            self._say((501, "5.5.4 Syntax: MAIL FROM:<address>"))
        elif size and int(size[1]) > MAX_SIZE:
            self._say((552, "5.3.4 Message size exceeds fixed limit"))
        else:
            self.sender = path[1]
            self._say((250, "2.1.0 OK"))

    def _rcpt(self, rest: str) -> None:
        path = _PATH.match(rest)
        if self.sender is None:
            self._say((503, "5.5.1 Need MAIL command"))
        elif path is None or "@" not in path[1]:
            self._say((501, "5.1.3 Syntax: RCPT TO:<address>"))
        elif len(self.recipients) >= MAX_RECIPIENTS:
            self._say((452, "4.5.3 Too many recipients"))
        elif (refusal := self.rules.on_recipient(self, path[1])) is not None:
            self._say(refusal)
            if refusal[0] == 421 and self._transport is not None:
                self._transport.close()
        else:
            self.recipients.append(path[1])
            self._say((250, "2.1.5 OK"))

    def _start_tls(self) -> None:
        if self.rules.tls is None or self.over_tls:
            self._say((502, "5.5.1 Command not implemented"))
            return
        self._say((220, "2.0.0 Ready to start TLS"))
        self._buffer.clear()  # what came before the handshake must not be obeyed after it

        async def upgrade() -> None:
            assert self._transport is not None
            assert self.rules.tls is not None
            self.over_tls = True
            loop = asyncio.get_running_loop()
            try:
                upgraded = await loop.start_tls(self._transport, self, self.rules.tls, server_side=True)
            except (OSError, ssl.SSLError) as problem:
                log.debug("no TLS: %s", problem)
                self.abort()
                return
            self._transport = upgraded
            self._greeted = False
            self._reset()

        self._wait(upgrade)

    def _auth(self, rest: str) -> None:
        kind, _, initial = rest.partition(" ")
        if self.rules.user is None or self._known:
            self._say((503, "5.5.1 Not now"))
        elif kind.upper() not in ("PLAIN", "LOGIN"):
            self._say((504, "5.5.4 Unrecognized authentication type"))
        else:
            self._wants_login = kind.upper() == "LOGIN"
            self._login = []
            if initial:
                self._answer_login(initial.encode())
            else:
                self._say((334, "VXNlcm5hbWU6" if self._wants_login else ""))

    def _answer_login(self, line: bytes) -> None:
        assert self._login is not None
        try:
            self._login.append(base64.b64decode(line, validate=True))
        except (binascii.Error, ValueError):
            self._login = None
            self._say((501, "5.5.2 Cannot decode"))
            return
        if self._wants_login and len(self._login) < 2:
            self._say((334, "UGFzc3dvcmQ6"))
            return
        given = self._login if self._wants_login else self._login[0].split(b"\0")[1:]
        self._login = None
        wanted = [(self.rules.user or "").encode(), self.rules.password.encode()]
        fits = len(given) == 2 and all(map(hmac.compare_digest, given, wanted))
        self._known = fits
        self._say((235, "2.7.0 Authenticated") if fits else (535, "5.7.8 Bad credentials"))

    def _reset(self) -> None:
        self.sender, self.recipients, self.memory = None, [], {}
