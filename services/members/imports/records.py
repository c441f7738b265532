"""An import's document: how it is made, and what is read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.members.imports.domain import Terms
from services.members.imports.reading import Form
from services.shared.database import Document

_FORM = ("kind", "encoding", "delimiter", "newline", "start", "line")


def form_to(form: Form) -> Document:
    """The form without its header, which is stored sealed."""
    return {name: getattr(form, name) for name in _FORM}


def form_from(document: Mapping[str, Any], header: Sequence[str]) -> Form:
    return Form(**document["form"], header=tuple(header))


def terms_to(terms: Terms) -> Document:
    return asdict(terms)


def terms_from(document: Mapping[str, Any]) -> Terms:
    stored = document["terms"]
    return Terms(
        **{**stored, "consents": tuple((purpose, channel) for purpose, channel in stored["consents"])}
    )
