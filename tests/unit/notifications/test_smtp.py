"""E-mail: the meaning of replies, and the mail as it goes over the wire."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest
from pydantic import ValidationError

from services.notifications.channels.smtp.errors import error_of
from services.notifications.channels.smtp.sender import SmtpSender
from services.notifications.core.channel import Message
from services.notifications.core.domain import Meaning
from tests.unit.notifications.gateway_settings import gateway_settings


@pytest.mark.parametrize(
    ("reply", "text", "meaning"),
    [
        (421, "4.3.2 closing", Meaning.RETRY),
        (450, "4.2.1 busy", Meaning.RETRY),
        (451, "4.7.1 greylisted", Meaning.RETRY),
        (452, "", Meaning.RETRY),
        (454, "4.7.0 no TLS now", Meaning.RETRY),
        (499, "a new one", Meaning.RETRY),
        (500, "", Meaning.BUG),
        (501, "", Meaning.BUG),
        (504, "", Meaning.BUG),
        (555, "", Meaning.BUG),
        (530, "5.7.0 authenticate first", Meaning.CHANNEL),
        (535, "5.7.8 wrong", Meaning.CHANNEL),
        (521, "", Meaning.RECIPIENT),
        (550, "5.1.1 No such user", Meaning.RECIPIENT),
        (550, "no such user", Meaning.RECIPIENT),
        (550, "5.7.26 SPF and DKIM failed", Meaning.NUMBER),
        (550, "5.2.3 too long", Meaning.MESSAGE),
        (551, "", Meaning.RECIPIENT),
        (552, "5.2.2 full", Meaning.RECIPIENT),
        (553, "", Meaning.RECIPIENT),
        (554, "5.6.0 bad content", Meaning.MESSAGE),
        (556, "", Meaning.RECIPIENT),
    ],
)
def test_a_reply_by_its_enhanced_code_else_by_its_own(reply, text, meaning):
    assert error_of(reply, text).meaning is meaning


def test_a_refused_sender_is_no_fault_of_a_recipient():
    assert error_of(550, "5.7.1 not you", of_sender=True).meaning is Meaning.NUMBER
    assert error_of(451, "", of_sender=True).meaning is Meaning.RETRY


def message(**changed: object) -> Message:
    given: dict[str, object] = {
        "id": "n",
        "member_id": "m",
        "channel": "email",
        "language": "hi",
        "unit": "BR",
        "address": "asha@example.org",
        "text": "नमस्ते आशा\nआइए",
        "reference": "n.1",
    }
    return Message(**given | changed)  # type: ignore[arg-type]


def test_a_mail_has_text_html_and_a_way_out_in_one_click():
    mail = message_from_bytes(
        SmtpSender(gateway_settings(smtp_from_name="संगठन")).mail_of(
            message(html="<p>नमस्ते</p>", unsubscribe="https://example.org/u/1")
        ),
        policy=default,
    )
    assert (mail["To"], mail["Subject"]) == ("asha@example.org", "नमस्ते आशा")
    assert mail["Message-ID"] == "<n.1@example.org>"
    assert mail["List-Unsubscribe"] == "<https://example.org/u/1>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert [part.get_content_type() for part in mail.walk()][1:] == ["text/plain", "text/html"]


def test_no_text_becomes_a_header():
    mail = message_from_bytes(
        SmtpSender(gateway_settings()).mail_of(message(subject="hi\r\nBcc: all@example.org")),
        policy=default,
    )
    assert mail["Bcc"] is None
    assert mail["Subject"] == "hi Bcc: all@example.org"
    with pytest.raises(ValueError):
        SmtpSender(gateway_settings()).mail_of(message(address="asha@example.org\nBcc: x@example.org"))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"sender": "recording"}, "has no effect: set sender to gateways"),
        ({"exotel_api_token": ""}, "sms_gateway=exotel needs exotel_api_token"),
        ({"smtp_from": ""}, "email_gateway=smtp needs smtp_from"),
        ({"whatsapp_token": ""}, "whatsapp_gateway=cloud_api needs whatsapp_token"),
        ({"whatsapp_api_version": "../v1"}, "whatsapp_api_version"),
    ],
)
def test_a_gateway_without_what_it_needs_is_refused(changed, fault):
    with pytest.raises(ValidationError, match=fault):
        gateway_settings(**changed)


def test_whatsapp_is_off_unless_switched_on():
    assert gateway_settings(whatsapp_gateway="none").whatsapp_gateway == "none"
    assert type(gateway_settings()).model_fields["whatsapp_gateway"].default == "none"
