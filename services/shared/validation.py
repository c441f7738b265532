"""Field errors made from pydantic's: they give the field and what was expected, never the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.shared.errors import FieldError, Location
from services.shared.text import REFUSED

# fmt: off
# Error types whose message contains only facts of the schema (pydantic 2, "Validation errors").
_SCHEMA_ONLY = frozenset({
    REFUSED, "missing", "extra_forbidden",
    "string_type", "string_too_short", "string_too_long", "string_pattern_mismatch", "string_unicode",
    "int_type", "int_parsing", "int_parsing_size", "int_from_float",
    "float_type", "float_parsing", "finite_number", "bool_type", "bool_parsing",
    "decimal_type", "decimal_parsing", "decimal_max_digits", "decimal_max_places", "decimal_whole_digits",
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of",
    "list_type", "tuple_type", "set_type", "dict_type", "model_type", "model_attributes_type",
    "too_short", "too_long", "enum", "literal_error", "union_tag_not_found", "none_required",
    "date_type", "date_from_datetime_inexact", "date_past", "date_future",
    "datetime_type", "datetime_past", "datetime_future", "timezone_aware", "timezone_naive",
    "time_type", "time_delta_type", "uuid_type", "uuid_version", "url_type", "url_scheme", "url_too_long",
})
# Error types whose message has the expectation, a comma, and then the value found.
_EXPECTED_FIRST = frozenset({
    "date_parsing", "date_from_datetime_parsing", "datetime_parsing", "datetime_from_date_parsing",
    "time_parsing", "time_delta_parsing", "uuid_parsing", "url_parsing", "url_syntax_violation",
})
# fmt: on
_PARAMETERS: Mapping[object, Location] = {
    "query": "query",
    "path": "path",
    "header": "header",
    "cookie": "cookie",
}
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def is_malformed_json(errors: Sequence[Mapping[str, Any]]) -> bool:
    return len(errors) == 1 and errors[0]["type"] == "json_invalid"


def field_error(error: Mapping[str, Any]) -> FieldError:
    """Convert one pydantic error as FastAPI reports it: `loc[0]` is the location, the rest the path to the
    field."""
    where, *steps = error["loc"] or ("body",)
    return FieldError("".join(_pointer_steps(steps)), _detail(error), _PARAMETERS.get(where, "body"))


def _pointer_steps(steps: Sequence[str | int]) -> list[str]:
    """Stop at a key that cannot be one of the schema's field names: the caller chose it, and it may be a
    phone number."""
    path = []
    for step in steps:
        if isinstance(step, str) and not _FIELD_NAME.fullmatch(step):
            break
        path.append(f"/{step}")
    return path


def _detail(error: Mapping[str, Any]) -> str:
    kind, message = error["type"], str(error["msg"])
    if kind == "extra_forbidden":
        return "unknown field"
    if kind in _SCHEMA_ONLY:
        return message
    if kind in _EXPECTED_FIRST:
        return message.split(",", 1)[0]
    return "is not valid"
