"""The sender for e-mail: SMTP, one connection for several messages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from typing import Final

import aiosmtplib
import structlog

from services.notifications.channels.smtp.errors import error_of
from services.notifications.core.channel import Message
from services.notifications.core.domain import Meaning, OutcomeClass, SendOutcome
from services.notifications.core.providers import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    NO_ANSWER,
    UNREACHABLE,
    UNSENDABLE,
    outcome_of,
)
from services.notifications.core.updates import Asked, Callback, Report, Update
from services.notifications.settings import NotificationsSettings

log = structlog.get_logger(__name__)

CONNECTIONS: Final = 5
BATCH_SECONDS: Final = 10.0
"""After this, a batch begins no more messages, so that it ends well within a claim."""
MAX_BYTES: Final = 1024 * 1024
_NOT_PRINTED: Final = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_TAKEN: Final = SendOutcome(OutcomeClass.TRANSIENT, UNREACHABLE, Meaning.RETRY)
_NOBODY_KNOWS: Final = SendOutcome(OutcomeClass.UNKNOWN, NO_ANSWER)


class SmtpSender:
    """Only the reply to the text itself (DATA) can be lost on the way: until then nothing was sent. No
    callbacks and no polls: an e-mail whose reply was lost stays unknown."""

    name: Final = "smtp"
    polls: Final = False
    approved_only: Final = False

    def __init__(self, settings: NotificationsSettings) -> None:
        self.account = settings.smtp_host
        self.number = settings.smtp_from
        self._from = Address(settings.smtp_from_name, addr_spec=settings.smtp_from)
        self._settings = settings

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        outcomes: dict[int, SendOutcome] = {}
        waiting = iter(list(enumerate(messages)))
        count = min(CONNECTIONS, len(messages))
        await asyncio.gather(*(self._worker(waiting, outcomes) for _ in range(count)))
        return [outcomes[i] for i in range(len(messages))]

    async def _worker(self, waiting: Iterator[tuple[int, Message]], outcomes: dict[int, SendOutcome]) -> None:
        """Send what is waiting over one connection at a time; a fault of one message costs no other."""
        client: aiosmtplib.SMTP | None = None
        down: SendOutcome | None = None
        deadline = asyncio.get_running_loop().time() + BATCH_SECONDS
        for i, message in waiting:
            if down is None and asyncio.get_running_loop().time() > deadline:
                down = _NOT_TAKEN
            if down is not None:
                outcomes[i] = down
                continue
            try:
                mail = self.mail_of(message)
            except Exception as error:
                log.error("gateway.unsendable", notification=message.id, error=type(error).__name__)
                outcomes[i] = SendOutcome(OutcomeClass.PERMANENT, UNSENDABLE, Meaning.BUG)
                continue
            if client is None:
                client, refused = await self._connected()
                if client is None:
                    outcomes[i] = down = refused
                    continue
            outcomes[i] = await self._hand_over(client, message.address, mail)
            if not client.is_connected or outcomes[i].kind is not OutcomeClass.SENT:
                await _close(client)
                client = None
        if client is not None:
            await _close(client)

    async def _connected(self) -> tuple[aiosmtplib.SMTP | None, SendOutcome]:
        """A connection, or the outcome of every message for which there is none."""
        settings = self._settings
        password = settings.smtp_password.get_secret_value()
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username or None,
            password=password if settings.smtp_username else None,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            timeout=CONNECT_SECONDS,
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect()
        except aiosmtplib.SMTPResponseException as error:
            await _close(client)
            return None, outcome_of(error_of(error.code, error.message), code=error.code)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            log.warning("gateway.unreachable", sender=self.name, error=type(error).__name__)
            await _close(client)
            return None, _NOT_TAKEN
        return client, _NOT_TAKEN

    async def _hand_over(self, client: aiosmtplib.SMTP, address: str, mail: bytes) -> SendOutcome:
        return await self._refused(client, address) or await _text_taken(client, mail)

    async def _refused(self, client: aiosmtplib.SMTP, address: str) -> SendOutcome | None:
        """Name the sender and the recipient; the outcome if one is refused, None if the text may follow."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.mail(self._settings.smtp_from)
                await client.rcpt(address)
        except aiosmtplib.SMTPResponseException as error:
            of_sender = isinstance(error, aiosmtplib.SMTPSenderRefused)
            return outcome_of(error_of(error.code, error.message, of_sender=of_sender), code=error.code)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError):
            return _NOT_TAKEN  # the text has not been sent
        return None

    def mail_of(self, message: Message) -> bytes:
        """The e-mail as it goes over the wire.

        Raises: `ValueError` for an address that is none, or a mail of more than 1 MiB.
        """
        mail = EmailMessage(policy=WIRE)
        mail["From"] = self._from
        mail["To"] = Address(addr_spec=message.address)
        mail["Subject"] = _subject(message)
        mail["Message-ID"] = f"<{message.reference or message.id}@{self._from.domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # nobody's holiday notice answers it (RFC 3834)
        if message.unsubscribe:
            # One click, without a page between (RFC 8058).
            mail["List-Unsubscribe"] = f"<{message.unsubscribe}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail.set_content(message.text, cte="base64")
        if message.html is not None:
            mail.add_alternative(message.html, subtype="html", cte="base64")
        wire = mail.as_bytes()
        if len(wire) > MAX_BYTES:
            raise ValueError("an e-mail of more than 1 MiB")
        return wire

    def parse(self, callback: Callback) -> Sequence[Update]:
        raise ValueError("SMTP has no callbacks")

    async def poll(self, messages: Sequence[Asked]) -> Sequence[Report]:
        return []

    async def close(self) -> None:
        """Connections end with the batch that they were made for."""


async def _text_taken(client: aiosmtplib.SMTP, mail: bytes) -> SendOutcome:
    """Send the text: from here on, a reply that does not come says nothing."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await client.data(mail)
    except aiosmtplib.SMTPResponseException as error:
        if error.code < 400:  # -1 is the library's own, for a reply that it cannot read
            return _NOBODY_KNOWS
        return outcome_of(error_of(error.code, error.message), code=error.code)
    except Exception:
        return _NOBODY_KNOWS
    return SendOutcome(OutcomeClass.SENT)


def _subject(message: Message) -> str:
    """In one line; without one, the first line of the text."""
    line = message.subject or message.text.strip().partition("\n")[0]
    return _NOT_PRINTED.sub(" ", line)[:200]


async def _close(client: aiosmtplib.SMTP) -> None:
    """Say goodbye if somebody listens: a server that hangs is not waited for."""
    try:
        async with asyncio.timeout(1.0):
            if client.is_connected:
                await client.quit()
    except Exception as error:
        log.debug("smtp.not_closed", error=type(error).__name__)
    finally:
        client.close()
