"""How connections to Kafka are secured: by TLS, by a password (SCRAM-SHA-512), by both or by neither."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

MECHANISM: Final = "SCRAM-SHA-512"
"""The broker never sees the password (RFC 5802), and keeps no more than a salted hash of it."""


@dataclass(frozen=True)
class Security:
    """What a client shows the broker, and by which authority it knows the broker; the platform's own ones without `ca_file`."""

    protocol: Protocol = "PLAINTEXT"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of any aiokafka client. The files are read anew each time: certificates are renewed while we run.

        Raises: `OSError` when a file cannot be read or is no certificate.
        """
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            options["ssl_context"] = self._tls()
        if self.protocol.startswith("SASL"):
            options |= {"sasl_mechanism": MECHANISM, "sasl_plain_username": self.username}
            options |= {"sasl_plain_password": self.password}
        return options

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


UNSECURED: Final = Security()
"""For a broker that only this machine or this network can reach."""
