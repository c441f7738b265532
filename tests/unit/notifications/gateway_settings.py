"""Settings with every gateway."""

from __future__ import annotations

import base64
from typing import Any, Final

from services.notifications.settings import NotificationsSettings

GATEWAYS: Final[dict[str, Any]] = {
    "sender": "gateways",
    "sms_gateway": "exotel",
    "exotel_account_sid": "org1",
    "exotel_api_key": "k3y",
    "exotel_api_token": "t0ken",
    "exotel_header": "ORGSMS",
    "exotel_callback_url": "https://example.org/callbacks/sesame",
    "dlt_entity_id": "1001",
    "email_gateway": "smtp",
    "smtp_host": "127.0.0.1",
    "smtp_from": "office@example.org",
    "smtp_username": "office",
    "smtp_password": "passw0rd",
    "whatsapp_gateway": "cloud_api",
    "whatsapp_phone_number_id": "900000000000002",
    "whatsapp_account_id": "900000000000001",
    "whatsapp_token": "EAAG",
    "whatsapp_app_secret": "an_app_secret_for_tests",
}


def gateway_settings(**changed: Any) -> NotificationsSettings:
    return NotificationsSettings(
        master_keys={"test": base64.b64encode(bytes(96)).decode()},
        members_url="http://127.0.0.1:1",
        groups_url="http://127.0.0.1:1",
        service_token_file="token",
        **GATEWAYS | changed,
    )
