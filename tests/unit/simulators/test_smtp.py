"""The mail server, spoken to by the standard library's client: what it keeps, refuses, breaks and bounces."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, TypeVar

import pytest
import trustme

from infra.simulators import SmtpSimulator, SteeringError
from infra.simulators.smtp.protocol import MAX_SIZE
from tests.unit.simulators.conftest import Receiver

T = TypeVar("T")


@pytest.fixture
async def server() -> AsyncIterator[SmtpSimulator]:
    async with SmtpSimulator() as server:
        yield server


def mail(number: int = 1, to: str = "asha@example.org", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sangathan@example.org", to, "नमस्ते आशा"
    message["Message-ID"] = f"<{number}@example.org>"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("नमस्ते\n.\n..बिंदु\n")
    message.add_alternative("<p>नमस्ते</p>", subtype="html")
    return message


async def talk(server: SmtpSimulator, what: Callable[[smtplib.SMTP], T], timeout: float = 5) -> T:
    def run() -> T:
        client = smtplib.SMTP(server.host, server.port, local_hostname="test", timeout=timeout)
        try:
            return what(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


async def send(server: SmtpSimulator, message: EmailMessage, **how: Any) -> dict[str, tuple[int, bytes]]:
    return await talk(server, lambda client: client.send_message(message), **how)


async def test_an_accepted_mail_is_kept_and_parsed(server: SmtpSimulator) -> None:
    await send(
        server,
        mail(
            List_Unsubscribe="<https://sngthn.in/u/abc>, <mailto:stop@example.org>",
            List_Unsubscribe_Post="List-Unsubscribe=One-Click",
        ),
    )
    (kept,) = server.mails
    assert (kept.sender, list(kept.recipients)) == ("sangathan@example.org", ["asha@example.org"])
    assert kept.message_id == "<1@example.org>"
    assert kept.subject == "नमस्ते आशा"
    assert kept.text.replace("\r\n", "\n") == "नमस्ते\n.\n..बिंदु\n"
    assert kept.html.strip() == "<p>नमस्ते</p>"
    assert kept.unsubscribe_uris == ["https://sngthn.in/u/abc", "mailto:stop@example.org"]
    assert kept.one_click
    (taken,) = server.ledger.of("asha@example.org")
    assert taken.reference == kept.message_id
    assert server.mail("<1@example.org>") is kept
    await send(server, mail())
    assert server.ledger.doubled == {"<1@example.org>": 2}


@pytest.mark.parametrize("size", [1, 16 * 1024 + 3, 300_000])
async def test_mails_of_any_size_in_one_session(server: SmtpSimulator, size: int) -> None:
    body = (b"x" * 76 + b"\r\n") * (size // 78) + b"." + b"y" * (size % 78)

    def work(client: smtplib.SMTP) -> None:
        for n in range(3):
            client.sendmail("a@example.org", ["b@example.org"], b"Message-ID: <%d@x>\r\n\r\n" % n + body)

    await talk(server, work)
    assert [each.message_id for each in server.mails] == ["<0@x>", "<1@x>", "<2@x>"]
    assert all(each.raw.endswith(body + b"\r\n") for each in server.mails)


async def test_recipients_are_refused_one_by_one(server: SmtpSimulator) -> None:
    server.steer(recipient="full@example.org", error="452 4.2.2 Mailbox full")
    server.steer(recipient="gone@example.org", error="550 5.1.1 No such user")

    def work(client: smtplib.SMTP) -> dict[str, tuple[int, bytes]]:
        people = ["asha@example.org", "full@example.org", "gone@example.org"]
        return client.sendmail("a@example.org", people, "Message-ID: <1@x>\r\n\r\nhi")

    refused = await talk(server, work)
    assert refused == {
        "full@example.org": (452, b"4.2.2 Mailbox full"),
        "gone@example.org": (550, b"5.1.1 No such user"),
    }
    assert [each.recipient for each in server.ledger] == ["asha@example.org"]
    assert server.ledger.refused == {"452": 1, "550": 1}


async def test_one_message_to_two_people_is_no_duplicate(server: SmtpSimulator) -> None:
    people = ["asha@example.org", "rita@example.org"]
    await talk(server, lambda client: client.sendmail("a@x.org", people, "Message-ID: <1@x>\r\n\r\nhi"))
    assert not server.ledger.doubled
    assert sorted(server.ledger.references()) == [f"<1@x>/{who}" for who in people]


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("fault", ["reset", "close", "hang"])
async def test_the_line_breaks_after_the_data_was_sent(
    server: SmtpSimulator, fault: str, taken: bool
) -> None:
    server.steer(next=1, fault=fault, taken=taken)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError, TimeoutError)):
        await send(server, mail(), timeout=0.4 if fault == "hang" else 5)
    assert len(server.ledger.by_reference("<1@example.org>")) == taken
    assert all(not each.answered for each in server.ledger)
    await send(server, mail(2))
    assert server.ledger.by_reference("<2@example.org>")[0].answered


async def test_greylisting_lets_a_later_try_pass(server: SmtpSimulator) -> None:
    server.greylist = 300.0
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            await send(server, mail())
        assert refused.value.recipients["asha@example.org"][0] == 450
    server.clock.advance(301)
    assert await send(server, mail()) == {}


async def test_throttling_and_too_many_connections(server: SmtpSimulator) -> None:
    server.steer(next=1, fault="throttle")
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPServerDisconnected)):
        await send(server, mail())
    server.max_connections = 0
    with pytest.raises(smtplib.SMTPConnectError, match="421"):
        await send(server, mail())


async def test_a_bounce_is_a_report_and_is_posted(receiver: Receiver) -> None:
    async with SmtpSimulator(bounces_to=receiver.url) as server:
        server.steer(recipient="full@example.org", outcome="bounce", pace=0)
        await send(server, mail(to="full@example.org"))
        await server.settled()
    (got,) = receiver.got
    assert got.headers["content-type"] == "message/rfc822"
    report = message_from_bytes(got.body, policy=policy.default)
    assert report.get_content_type() == "multipart/report"
    assert report["To"] == "sangathan@example.org"
    parts = list(report.iter_parts())
    status = parts[1].get_payload()
    assert status[1]["Action"] == "failed"  # type: ignore[index]
    assert (status[1]["Status"], status[1]["Final-Recipient"]) == ("5.2.2", "rfc822; full@example.org")  # type: ignore[index]
    assert "<1@example.org>" in parts[2].get_content()
    assert server.bounces == [got.body]


async def test_the_unsubscribe_button(server: SmtpSimulator, receiver: Receiver) -> None:
    one_click = "List-Unsubscribe=One-Click"
    await send(server, mail(List_Unsubscribe=f"<{receiver.url}/u/abc>", List_Unsubscribe_Post=one_click))
    assert await server.unsubscribe(server.mails[0]) == 200
    (got,) = receiver.got
    assert (got.method, got.path, got.body) == ("POST", "/hooks/u/abc", b"List-Unsubscribe=One-Click")


async def test_starttls_and_a_login() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with SmtpSimulator(tls=context, user="sangathan", password="right") as server:
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            await send(server, mail())

        def work(client: smtplib.SMTP) -> None:
            client.ehlo()
            assert not client.has_extn("auth")
            client.starttls(context=trusting)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("sangathan", "wrong")
            client.login("sangathan", "right")
            client.send_message(mail())
            client.quit()

        await talk(server, work)
        assert server.mails[0].over_tls


async def test_commands_out_of_order_and_sizes(server: SmtpSimulator) -> None:
    def work(client: smtplib.SMTP) -> list[int]:
        codes = [client.docmd(command)[0] for command in ("MAIL FROM:<a@x>", "NONSENSE", "RCPT TO:<b@x>")]
        client.ehlo()
        commands = ("RCPT TO:<b@x>", "DATA", f"MAIL FROM:<a@x> SIZE={MAX_SIZE + 1}", "MAIL FROM:a@x")
        codes += [client.docmd(command)[0] for command in commands]
        codes += [
            client.docmd(command)[0] for command in ("MAIL FROM:<>", "RCPT TO:<b@x>", "RSET", "VRFY b@x")
        ]
        return [*codes, client.docmd("X" * 5_000)[0], client.docmd("STARTTLS")[0], client.quit()[0]]

    assert await talk(server, work) == [503, 500, 503, 503, 554, 552, 501, 250, 250, 250, 252, 500, 502, 221]


async def test_pipelined_commands_and_what_is_not_utf_8(server: SmtpSimulator) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    commands = b"EHLO t\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nDATA\r\n"
    writer.write(commands + b"Subject: x\r\n\r\n..\r\n.\r\n\xff\r\nQUIT\r\n")
    said = (await reader.read(-1)).decode()
    writer.close()
    assert [line[:4] for line in said.splitlines() if line[3] == " "] == [
        *("220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "500 ", "221 ")
    ]
    assert server.mails[0].raw == b"Subject: x\r\n\r\n.\r\n"


@pytest.mark.parametrize(
    "wrong", [{"error": "nonsense"}, {"outcome": "read"}, {"template": "x"}, {"fault": "html"}]
)
async def test_words_of_other_gateways_are_refused(server: SmtpSimulator, wrong: dict[str, Any]) -> None:
    with pytest.raises(SteeringError):
        server.steer(**wrong)
