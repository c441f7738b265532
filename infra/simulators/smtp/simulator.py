"""An SMTP server on 127.0.0.1 that keeps what it accepts, and fails as it is told.

Sources: RFC 5321 (SMTP), RFC 3463 (enhanced status codes), RFC 3464 (bounces), RFC 8058 (one-click
unsubscription); greylisting as RFC 6647 describes it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from infra.simulators.callbacks import Callback, CallbackFailedError, Retries, request_once
from infra.simulators.gateway import Gateway
from infra.simulators.presets import Fate, Preset
from infra.simulators.serving import HOST
from infra.simulators.smtp.mail import ONE_CLICK, Mail
from infra.simulators.smtp.protocol import Reply, Session
from infra.simulators.steering import NOTHING_SAID, Behaviour, Fault, SteeringError

KEPT_BYTES: Final = 64 * 2**20
_REPLY: Final = re.compile(r"([245]\d\d) (.{1,500})\Z")
_BUSY: Final = (421, "4.7.0 Too many connections, try again later")
_GREY: Final = (450, "4.2.0 Greylisted, try again later")
_UNKNOWN: Final = (550, "5.1.1 No such user")
_FULL: Final = "552 5.2.2 Mailbox full"
_OUTCOMES: Final = ("accepted", "bounce", "silent")
BOUNCE_RETRIES: Final = Retries((0.1, 0.5, 2.0), timeout=10.0, accepted=range(200, 300))


@dataclass(slots=True)
class _Verdict:
    """How a transaction ends on the line."""

    reply: Reply | None = None
    latency: float = 0.0
    hang: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class _Bounce:
    """A report that falls due."""

    mail: Mail
    recipient: str
    why: str


class SmtpSimulator(Gateway[_Bounce]):
    """`async with SmtpSimulator() as server: server.host, server.port`.

    `user`, `password`   what a client must log in with; None needs no login
    `tls`                offers STARTTLS with this context
    `greylist`           seconds for which an unknown pair of sender and recipient is put off; None is never
    `connections`        open connections, more get 421
    `bounces_to`         URL on this machine to which bounces are posted as `message/rfc822`; None keeps them
    `keep`               mails that the ledger holds; of their bytes 64 MB are kept

    Steering: `error="450 4.2.1 Busy"` is the reply to RCPT; `fault` breaks the end of DATA (`reset`, `close`,
    `hang`; with `taken=True` after the mail was taken), or `throttle`, which answers 421 and closes;
    `outcome` is
    `accepted`, `bounce` or `silent` (accepted, and nothing else ever known, as `accepted`).
    """

    name = "smtp"

    def __init__(
        self,
        *,
        port: int = 0,
        hostname: str = "mx.example",
        user: str | None = None,
        password: str = "",
        tls: ssl.SSLContext | None = None,
        greylist: float | None = None,
        max_connections: int = 1_000,
        bounces_to: str | None = None,
        preset: str | Preset = "clean",
        seed: int = 1,
        retries: Retries = BOUNCE_RETRIES,
        keep: int = 100_000,
    ) -> None:
        super().__init__(retries, preset=preset, seed=seed, keep=keep)
        self.hostname, self.user, self.password, self.tls = hostname, user, password, tls
        self.greylist, self.bounces_to, self.max_connections = greylist, bounces_to, max_connections
        self.bounces: list[bytes] = []
        """Reports made, the newest 1,000."""
        self._port = port
        self._server: asyncio.Server | None = None
        self._sessions: set[Session] = set()
        self._mails: OrderedDict[str, Mail] = OrderedDict()
        self._bytes = 0
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    # Running.

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Session(self, self._sessions), HOST, self._port, backlog=1024
        )
        self._port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for session in list(self._sessions):
            session.abort()

    @property
    def host(self) -> str:
        return HOST

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def port(self) -> int:
        return self._port

    def steer(self, said: Behaviour | None = None, **how: Any) -> None:
        if how.get("template") is not None:
            raise SteeringError("mail has no template")
        outcome = how.get("outcome", said.outcome if said else None)
        if outcome is not None and outcome not in _OUTCOMES:
            raise SteeringError(f"mail has no outcome {outcome}")
        error = how.get("error", said.error if said else None)
        if error is not None and not _REPLY.match(str(error)):
            raise SteeringError(f"not an SMTP reply: {error}")
        fault = how.get("fault", said.fault if said else None)
        if fault is not None and fault not in ("reset", "close", "hang", "throttle"):
            raise SteeringError(f"mail has no fault {fault}")
        super().steer(said, **how)

    # Mails.

    @property
    def mails(self) -> list[Mail]:
        """Mails kept, oldest first."""
        return list(self._mails.values())

    def mail(self, message_id: str) -> Mail | None:
        """The newest mail with this Message-ID."""
        taken = self.ledger.by_reference(message_id)
        return self._mails.get(str(taken[-1].fields["queue_id"])) if taken else None

    def bounce(self, mail: Mail, recipient: str | None = None, why: str = "550 5.1.1 No such user") -> bytes:
        """Make a bounce, and send it if `bounces_to` is set."""
        code = re.search(r"\b([245]\.\d{1,3}\.\d{1,3})\b", why)
        report = mail.bounce(recipient or mail.recipients[0], code[1] if code else "5.0.0", why)
        self.bounces.append(report)
        del self.bounces[:-1_000]
        if self.bounces_to is not None:
            headers = [("content-type", "message/rfc822")]
            self.callbacks.send(Callback("POST", self.bounces_to, headers, report, label="bounce"))
        return report

    async def unsubscribe(self, mail: Mail) -> int:
        """Tap the mailbox provider's unsubscribe button: one POST, without cookies. Returns the HTTP status.

        Raises: `CallbackFailedError` when the mail does not offer it, or nobody answers.
        """
        if not mail.one_click:
            raise CallbackFailedError("the mail offers no one-click unsubscription")
        uri = next(uri for uri in mail.unsubscribe_uris if uri.startswith(("http://", "https://")))
        headers = [("content-type", "application/x-www-form-urlencoded")]
        status, _ = await request_once(
            "POST", uri.replace("https://", "http://", 1), headers, ONE_CLICK.encode()
        )
        return status

    # What a connection asks.

    def on_connect(self) -> Reply | None:
        return _BUSY if len(self._sessions) > self.max_connections else None

    def on_recipient(self, session: Session, address: str) -> Reply | None:
        if "asked" not in session.memory:
            session.memory["asked"] = self.steering.request()
            session.memory["said"] = {}
        asked = session.memory["asked"]
        assert isinstance(asked, Behaviour)
        said = self._decide([address, address.lower()], None, asked, NOTHING_SAID)
        if said.error is not None:
            return self._refuse(_reply(str(said.error)), address)
        if said.fault is Fault.THROTTLE:
            self.ledger.faults["throttle"] += 1
            return self._refuse(_BUSY, address)
        if self.greylist is not None and not self._known_pair(session.sender or "", address):
            return self._refuse(_GREY, address)
        if said.outcome is None and self._fate(address.lower(), "") is Fate.UNREACHABLE:
            return self._refuse(_UNKNOWN, address)
        behaviours = session.memory["said"]
        assert isinstance(behaviours, dict)
        behaviours[address] = said
        return None

    def on_data(self, session: Session, raw: bytes) -> _Verdict:
        behaviours = session.memory["said"]
        assert isinstance(behaviours, dict)
        fault = next((said for said in behaviours.values() if said.fault is not None), None)
        latency = max((said.latency or 0.0 for said in behaviours.values()), default=0.0)
        queue_id = secrets.token_hex(6).upper()
        verdict = _Verdict(latency=latency or self._vary(self.preset.latency, queue_id))
        if fault is not None:
            self.ledger.faults[f"{fault.fault}+taken" if fault.taken else str(fault.fault)] += 1
            verdict.hang = fault.fault is Fault.HANG
            verdict.reset = fault.fault is Fault.RESET
            if not fault.taken:
                return verdict
        self._take(queue_id, session, raw, behaviours, answered=fault is None)
        if fault is None:
            verdict.reply = (250, f"2.0.0 OK: queued as {queue_id}")
        return verdict

    def _take(
        self,
        queue_id: str,
        session: Session,
        raw: bytes,
        behaviours: dict[str, Behaviour],
        *,
        answered: bool,
    ) -> None:
        now = self.clock.now()
        mail = Mail(queue_id, session.sender or "", tuple(session.recipients), raw, now, session.over_tls)
        self._mails[queue_id] = mail
        self._bytes += len(raw)
        while self._bytes > KEPT_BYTES:
            _, oldest = self._mails.popitem(last=False)
            self._bytes -= len(oldest.raw)
        for place, recipient in enumerate(mail.recipients):
            self.ledger.take(
                queue_id if len(mail.recipients) == 1 else f"{queue_id}/{place}",
                recipient,
                # One Message-ID to several people is one message to each of them, not a duplicate.
                mail.message_id if len(mail.recipients) == 1 else f"{mail.message_id}/{recipient}",
                now,
                "mail",
                answered=answered,
                fields={"sender": mail.sender, "queue_id": queue_id, "message_id": mail.message_id},
            )
            said = behaviours[recipient]
            fate = self._fate(recipient.lower(), mail.message_id or queue_id)
            if said.outcome == "bounce" or (said.outcome is None and fate is Fate.FAILED):
                pace = self.preset.pace if said.pace is None else said.pace
                why = _FULL if said.reply is None else said.reply
                self.timetable.add(_Bounce(mail, recipient, why), pace)

    def _known_pair(self, sender: str, recipient: str) -> bool:
        assert self.greylist is not None
        now = self.clock.now()
        first = self._seen.setdefault((sender, recipient), now)
        while len(self._seen) > 100_000:
            self._seen.popitem(last=False)
        return now - first >= self.greylist and first != now

    def _refuse(self, reply: Reply, address: str) -> Reply:
        self.ledger.refuse(reply[0], address)
        return reply

    def _fall_due(self, due: list[_Bounce]) -> None:
        for each in due:
            self.bounce(each.mail, each.recipient, each.why)


def _reply(text: str) -> Reply:
    found = _REPLY.match(text)
    assert found is not None, "steer() has checked it"
    return int(found[1]), found[2]
