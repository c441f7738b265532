"""The simulators of the message gateways as a child process, and the settings of notifications that use them.

Nobody outside this machine can reach either of them, so their credentials are no secrets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.local.ports import HOST
from infra.local.processes import Child
from infra.local.services import answers

PORTS: Final = ("control", "exotel", "whatsapp", "smtp")
APP_SECRET: Final = "simulated-app-secret"  # noqa: S105
VERIFY_TOKEN: Final = "simulated-verify-token"  # noqa: S105
CALLBACK_SECRET: Final = "simulated-callback-secret"  # noqa: S105
STOP_NUMBER: Final = "+918047000001"
PER_SECOND: Final = 300


@dataclass(frozen=True)
class SimulatedGateways:
    """`ports` by the names of `PORTS`; `notifications` is the URL of the service that gets the callbacks."""

    ports: Mapping[str, int]
    notifications: str
    directory: Path
    preset: str
    seed: int = 1

    def url(self, name: str) -> str:
        """The address of a simulator, or of their `control`."""
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def _sms_callbacks(self) -> str:
        return f"{self.notifications}/webhooks/sms/exotel/{CALLBACK_SECRET}"

    def child(self, logs: Path) -> Child:
        """The process; ready when its control API answers."""
        config = self.directory / "simulators.json"
        # Texts go as they are, so everybody has to have written to us.
        config.write_text(
            json.dumps(
                {
                    "whatsapp": {
                        "app_secret": APP_SECRET,
                        "verify_token": VERIFY_TOKEN,
                        "all_windows_open": True,
                    }
                }
            )
        )
        command = [
            sys.executable,
            "-m",
            "infra.simulators",
            "--preset",
            self.preset,
            "--seed",
            str(self.seed),
        ]
        command += ["--no-limits", "--no-strict", "--config", str(config)]
        command += [part for name, port in self.ports.items() for part in (f"--{name}-port", str(port))]
        command += ["--whatsapp-webhooks-to", f"{self.notifications}/webhooks/whatsapp"]
        for option in ("callbacks", "missed-calls", "inbound"):
            command += [f"--exotel-{option}-to", self._sms_callbacks]

        async def ready() -> bool:
            return await answers(self.ports["control"], "/healthz")

        return Child("simulators", command, logs / "simulators.log", ready, restart=False, ready_within=60)

    def environment(self) -> dict[str, str]:
        """The SANGATHAN_* variables of notifications."""
        values = {
            "SENDER": "gateways",
            "SMS_GATEWAY": "exotel",
            "EMAIL_GATEWAY": "smtp",
            "WHATSAPP_GATEWAY": "cloud_api",
            "EXOTEL_URL": self.url("exotel"),
            "EXOTEL_ACCOUNT_SID": "sangathan1",
            "EXOTEL_API_KEY": "sim-exotel-key",
            "EXOTEL_API_TOKEN": "sim-exotel-token",
            "EXOTEL_HEADER": "SNGTHN",
            "EXOTEL_CALLBACK_URL": self._sms_callbacks,
            "DLT_ENTITY_ID": "1101000000000000001",
            "SMTP_HOST": HOST,
            "SMTP_PORT": str(self.ports["smtp"]),
            "SMTP_TLS": "none",
            "SMTP_FROM": "sangathan@example.org",
            "WHATSAPP_URL": self.url("whatsapp"),
            "WHATSAPP_PHONE_NUMBER_ID": "900000000000002",
            "WHATSAPP_ACCOUNT_ID": "900000000000001",
            "WHATSAPP_TOKEN": "sim-whatsapp-token",
            "WHATSAPP_APP_SECRET": APP_SECRET,
            "WHATSAPP_VERIFY_TOKEN": VERIFY_TOKEN,
            "SMS_CALLBACK_SECRETS": json.dumps({"exotel": CALLBACK_SECRET}),
            "STOP_NUMBERS": json.dumps([STOP_NUMBER]),
            **{f"{channel}_PER_SECOND": str(PER_SECOND) for channel in ("SMS", "EMAIL", "WHATSAPP")},
            "POLL_MINUTES": "0.1",
            "SEND_RETRY_SECONDS": "1",
        }
        return {f"SANGATHAN_{name}": value for name, value in values.items()}
