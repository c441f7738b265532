"""Registers the texts as shipped for the simulated gateways, which take approved templates only."""

from __future__ import annotations

import re
from typing import Any, Final

import httpx2

from infra.local.errors import LocalError

LANGUAGES: Final = ("hi", "en")
PLACES: Final = 3
"""Places in a row for each value: 90 characters, for links of WhatsApp are longer than one place."""
CHANNELS: Final = ("sms", "whatsapp")


async def register_texts(url: str, token: str) -> None:
    """Tell notifications, at `url`, that each text that needs it is approved on both channels. Repeated, it
    changes nothing.

    :raises LocalError: notifications refuses one
    """
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        texts = await _taken(client, "GET", "/v1/templates?limit=500")
        for each in texts["items"]:
            version = each["version"]
            for channel in CHANNELS if each["language"] in LANGUAGES else ():
                if channel in each["approved"]:
                    continue
                path = f"/v1/templates/{each['name']}/{each['language']}/approvals/{channel}"
                body = {"version": version, **_approval(each, channel)}
                version = (await _taken(client, "PUT", path, body))["version"]


def _approval(text: dict[str, Any], channel: str) -> dict[str, Any]:
    name = f"{text['name']}_{text['language']}"
    if channel == "sms":
        registered = re.sub(r"{{.*?}}", "{#var#}" * PLACES, text["text"])
        return {
            "state": "approved",
            "name": f"1107{name}",
            "category": "service_implicit",
            "text": registered,
        }
    return {
        "state": "approved",
        "name": name,
        "category": "utility",
        "language": text["language"],
        "variables": text["variables"],
    }


async def _taken(
    client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    answer = await client.request(method, path, json=body)
    if answer.status_code >= 300:
        raise LocalError(f"notifications answered {answer.status_code} to {path}: {answer.text[:300]}")
    taken: dict[str, Any] = answer.json()
    return taken
