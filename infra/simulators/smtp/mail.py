"""A mail as the server took it, parsed when it is looked at; and the report of its bounce."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate
from functools import cached_property
from typing import Final

_MESSAGE_ID: Final = re.compile(rb"^message-id:[ \t]*(?:\r?\n[ \t]+)?(\S+)", re.IGNORECASE | re.MULTILINE)
_URI: Final = re.compile(r"<([^<>]+)>")
ONE_CLICK: Final = "List-Unsubscribe=One-Click"
"""RFC 8058: the value of List-Unsubscribe-Post, and the body that a mailbox provider posts."""


@dataclass
class Mail:
    """One accepted transaction. `id` is the queue id of the reply; `raw` is empty once it was forgotten."""

    id: str
    sender: str
    recipients: Sequence[str]
    raw: bytes
    at: float
    over_tls: bool = False

    @cached_property
    def message_id(self) -> str:
        """The Message-ID header, found without parsing; empty without one."""
        head, _, _ = self.raw.partition(b"\r\n\r\n")
        found = _MESSAGE_ID.search(head)
        return found[1].decode("ascii", "replace") if found else ""

    @cached_property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)

    @property
    def subject(self) -> str:
        return str(self.message["subject"] or "")

    def header(self, name: str) -> str | None:
        """A header, decoded; None without it."""
        value = self.message[name]
        return None if value is None else str(value)

    @cached_property
    def text(self) -> str:
        """The plain part; empty without one."""
        return self._part("plain")

    @cached_property
    def html(self) -> str:
        """The HTML part; empty without one."""
        return self._part("html")

    @property
    def unsubscribe_uris(self) -> list[str]:
        """URIs of List-Unsubscribe, in order."""
        return _URI.findall(self.header("list-unsubscribe") or "")

    @property
    def one_click(self) -> bool:
        """Whether a mailbox provider shows its unsubscribe button (RFC 8058)."""
        posted = (self.header("list-unsubscribe-post") or "").strip()
        return posted == ONE_CLICK and any(
            uri.startswith(("https://", "http://")) for uri in self.unsubscribe_uris
        )

    def bounce(self, recipient: str, status: str = "5.1.1", why: str = "550 5.1.1 No such user") -> bytes:
        """A delivery status notification (RFC 3464) to the sender of the envelope, with an empty one
        itself."""
        report = EmailMessage()
        report["From"] = "Mail Delivery Subsystem <mailer-daemon@mx.example>"
        report["To"] = self.sender
        report["Subject"] = "Undelivered Mail Returned to Sender"
        report["Date"] = formatdate(self.at)
        report["Message-ID"] = f"<bounce-{self.id}@mx.example>"
        report["Auto-Submitted"] = "auto-replied"
        if self.message_id:
            report["In-Reply-To"] = self.message_id
        action = "failed" if status.startswith("5") else "delayed"
        boundary = f"=_{self.id}"
        report["MIME-Version"] = "1.0"
        report["Content-Type"] = f'multipart/report; report-type=delivery-status; boundary="{boundary}"'
        head, _, _ = self.raw.partition(b"\r\n\r\n")
        parts = (
            ("text/plain; charset=utf-8", f"The mail to {recipient} could not be delivered.\r\n{why}\r\n"),
            (
                "message/delivery-status",
                f"Reporting-MTA: dns; mx.example\r\nOriginal-Envelope-Id: {self.id}\r\n\r\n"
                f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
                f"Diagnostic-Code: smtp; {why}\r\n",
            ),
            ("text/rfc822-headers", head.decode("ascii", "replace") + "\r\n"),
        )
        lines = [f"{name}: {value}\r\n" for name, value in report.items()]
        lines.append("\r\n")
        for kind, content in parts:
            lines.append(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n{content}\r\n")
        lines.append(f"--{boundary}--\r\n")
        return "".join(lines).encode()

    def _part(self, subtype: str) -> str:
        for part in self.message.walk():
            if part.get_content_type() == f"text/{subtype}" and not part.is_attachment():
                return str(part.get_content())
        return ""
