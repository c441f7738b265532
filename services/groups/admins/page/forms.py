"""Forms of the page: `multipart/form-data` (RFC 7578) and `application/x-www-form-urlencoded`, in bounds."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from typing import Final
from urllib.parse import parse_qsl

MAX_FIELDS: Final = 12


class FormError(Exception):
    """The body is no form that the page has sent."""


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """The first value of each field. Raises: `FormError`."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(body.decode("ascii"), max_num_fields=MAX_FIELDS, keep_blank_values=True)
            return {name: value.encode() for name, value in reversed(pairs)}
        if kind == "multipart/form-data":
            return _parts(content_type, body)
    except (ValueError, UnicodeError, LookupError) as error:
        raise FormError from error
    raise FormError


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    head = b"Content-Type: " + content_type.encode("ascii") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise FormError
    parts = list(message.iter_parts())
    if len(parts) > MAX_FIELDS:
        raise FormError
    fields: dict[str, bytes] = {}
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields.setdefault(name, content)
    return fields
