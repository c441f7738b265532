"""Which column holds which field: synonyms in English and Hindi. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from services.members.imports.forbidden import forbidden_cells, forbidden_heading
from services.members.imports.reading import UnreadableError
from services.shared.contracts.vocabulary import UUID, Platform
from services.shared.text import clean

FIELDS: Final = (
    *("id", "name", "phone", "unit", "gender", "language", "email", "birth_year", "platforms"),
    *("preferred_channel", "inviter_id", "reached_by", "consent"),
    *(platform.value for platform in Platform),
)
"""Fields that a column can hold; a platform's name means the handle there."""
IGNORE: Final = "ignore"

_SYNONYMS: Final[Mapping[str, str]] = {
    "id": "member id, सदस्य आईडी",
    "name": "full name, member name, name of member, नाम, पूरा नाम, सदस्य का नाम, सदस्य नाम",
    "phone": (
        "mobile, mob, contact, cell, tel, telephone, phone mobile, contact mobile, मोबाइल, मो, फोन, दूरभाष, "
        "संपर्क, मोबाइल फोन"
    ),
    "unit": "unit code, code, booth code, block code, district code, इकाई, इकाई कोड, कोड",
    "gender": "sex, लिंग",
    "language": "lang, preferred language, भाषा",
    "email": "e mail, mail, email id, email address, e mail id, ईमेल, ई मेल, ईमेल आईडी",
    "birth_year": (
        "year of birth, birth year, yob, born, dob, date of birth, birth date, जन्म वर्ष, जन्म तिथि, जन्मतिथि"
    ),
    "platforms": "handles, social media",
    "preferred_channel": "preferred contact, contact by, write by, संपर्क माध्यम, पसंदीदा माध्यम",
    "inviter_id": "inviter",
    "reached_by": "reached via, reached through, phone of member, किसके फोन से",
    "consent": "consent given, सहमति",
    "whatsapp": "व्हाट्सएप, व्हाट्सऐप, वाट्सएप",
    "facebook": "fb, फेसबुक",
    "instagram": "insta, इंस्टाग्राम",
    "x": "twitter, ट्विटर",
    "youtube": "यूट्यूब",
    "telegram": "टेलीग्राम",
    "sharechat": "शेयरचैट",
}
_ID: Final = re.compile(UUID)
_PUNCTUATION: Final = re.compile(r"[\s._\-/\\()\[\]:;*#'\"।]+")
_PLACE: Final = re.compile(r"(.*\S)\s*#([1-9][0-9]?)", re.DOTALL)
"""`Mobile#2`: the second of several columns of one name."""
_NUMBER: Final = re.compile(r"(?<=\S) (?:no|nos|num|number|nr|न|नं|नंबर|संख्या)$")
_SPELT: Final = str.maketrans({"\u093c": None, "\u0901": "\u0902"})


def _key(header: str) -> str:
    """`Mobile No.` -> `mobile`, `मोबाईल नम्बर` -> `मोबाइल`."""
    text = unicodedata.normalize("NFD", clean(header[:200]).casefold()).translate(_SPELT)
    text = text.replace("म्ब", "ंब").replace("बाईल", "बाइल").replace("म्पर्क", "ंपर्क")
    return _NUMBER.sub("", _PUNCTUATION.sub(" ", text).strip())


def _by_key(words: Mapping[str, str]) -> dict[str, str]:
    return {_key(word): field for field, typed in words.items() for word in typed.split(",")}


_FIELD_OF: Final = _by_key(_SYNONYMS) | {_key(field): field for field in FIELDS}


def columns(
    header: Sequence[str], mapping: Mapping[str, str], sample: Sequence[Sequence[str]] = ()
) -> tuple[str | None, ...]:
    """The field of each column; None for one that is ignored. `mapping` goes before the synonyms; of columns
    of one name, `Mobile#2` is the second. A column `id` without a single id in the `sample` of rows is
    somebody's own numbering.

    Raises: `UnreadableError` for a column that no file may have, a field with two columns, a mapping that
    names no column or field, or a file without any column that tells who a row is about.
    """
    keys = [_key(each) for each in header]
    _check_allowed([*header, *mapping], len(header), sample)
    if unknown := set(mapping.values()) - {*FIELDS, IGNORE}:
        raise UnreadableError("mapping", f"{len(unknown)} of the mapping's fields do not exist")
    chosen = _chosen(keys, mapping)
    found = [chosen.get(at, _FIELD_OF.get(key)) for at, key in enumerate(keys)]
    fields = [None if field == IGNORE else field for field in found]
    for at, field in enumerate(fields):
        if field == "id" and at not in chosen and not _has_ids(sample, at):
            fields[at] = None
    _check_complete(fields)
    return tuple(fields)


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row reads like a header: it has the phone's column and one more that is known."""
    known = {_FIELD_OF.get(_key(cell)) for cell in cells} - {None}
    return "phone" in known and len(known) > 1


def _chosen(keys: Sequence[str], mapping: Mapping[str, str]) -> dict[int, str]:
    """The fields of the columns that the mapping names, by their place in the header.

    Raises: `UnreadableError` for a column that is not there.
    """
    chosen: dict[int, str] = {}
    absent = 0
    for column, field in sorted(mapping.items(), key=lambda each: _PLACE.fullmatch(each[0]) is not None):
        places = [at for at, key in enumerate(keys) if key == _key(column)]
        if not places and (one := _PLACE.fullmatch(column)):
            of_name = [at for at, key in enumerate(keys) if key == _key(one[1])]
            places = of_name[int(one[2]) - 1 :][:1]
        absent += not places
        chosen |= dict.fromkeys(places, field)
    if absent:
        raise UnreadableError("mapping", f"{absent} of the mapping's columns are not in the header")
    return chosen


def _has_ids(sample: Sequence[Sequence[str]], at: int) -> bool:
    return any(len(cells) > at and _ID.fullmatch(cells[at].strip().lower()) for cells in sample)


def _check_allowed(headings: Sequence[str], columns: int, sample: Sequence[Sequence[str]]) -> None:
    refused = {what: f"a column for {what}" for each in headings if (what := forbidden_heading(each))}
    for at in range(columns):
        if what := forbidden_cells(cells[at] for cells in sample if len(cells) > at):
            refused.setdefault(what, f"numbers or words of {what} in column {at + 1}")
    if refused:
        found = ", ".join(refused[what] for what in sorted(refused))
        raise UnreadableError(
            "forbidden_column", f"the file has {found}: delete it, this system keeps no such data"
        )


def _check_complete(fields: Sequence[str | None]) -> None:
    named = [field for field in fields if field is not None]
    if twice := sorted({field for field in named if named.count(field) > 1}):
        raise UnreadableError(
            "column_twice",
            f"several columns are taken for {', '.join(twice)}: say which by mapping=, "
            "where `Mobile#2` is the second column of that name",
        )
    if not {"phone", "id", "reached_by"} & set(named):
        raise UnreadableError(
            "no_phone_column", "no column is known as the phone: name it `phone`, or say which by mapping="
        )
