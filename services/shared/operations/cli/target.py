"""The service to call, and the token to use: from options, the environment or a running local stack."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.shared.config.settings import variable


class OpsError(Exception):
    """A failure whose message is the one line that the operator sees."""


@dataclass(frozen=True, slots=True)
class Target:
    service: str
    url: str
    token: str


def find(service: str, url: str | None, directory: Path) -> Target:
    """The target: address from `url`, `SANGATHAN_<SERVICE>_URL` or `<directory>/stack.json`, and the token
    likewise.

    Raises: `OpsError` when either is missing.
    """
    stack = read_stack(directory)
    address = url or variable(f"{service}_url") or stack.get("services", {}).get(service)
    if address is None:
        known = ", ".join(stack.get("services", ())) or "no local stack is running"
        raise OpsError(
            f"no address of a service {service!r} ({known}): use --url or SANGATHAN_{service.upper()}_URL"
        )
    token = _token() or stack.get("token")
    if token is None:
        raise OpsError("no token: set SANGATHAN_TOKEN or SANGATHAN_TOKEN_FILE")
    if not (token.isascii() and token.isprintable()):
        raise OpsError("the token is not a line of ASCII: SANGATHAN_TOKEN or its file holds something else")
    return Target(service, address.rstrip("/"), token)


def _token() -> str | None:
    if token := variable("token"):
        return token
    file = variable("token_file")
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "it is not UTF-8")
        raise OpsError(f"the token file cannot be read: {why}") from None


def read_stack(directory: Path) -> dict[str, Any]:
    """The content of `<directory>/stack.json`; empty when no stack is running there.

    Raises: `OpsError` when the file cannot be read.
    """
    try:
        return dict(json.loads((directory / "stack.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError):
        raise OpsError(f"{directory / 'stack.json'} cannot be read") from None
