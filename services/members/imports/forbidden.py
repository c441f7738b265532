"""Columns that no file may have: of Aadhaar, voter id, caste and religion, by the words of their headings and
by what their cells look like. Pure.

A heading is judged by each of its words, however it is spelt, cased or joined: `आधार कार्ड क्रमांक`,
`AadhaarNo`, `GEN/OBC/SC/ST`. Aadhaar numbers end with a check digit by Verhoeff's scheme and do not begin
with 0 or 1 (UIDAI); an EPIC number is three letters and seven digits (Election Commission of India).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rapidfuzz.distance import OSA

from services.members.core.phone_cells import ascii_digits
from services.shared.text import clean

AADHAAR: Final = "Aadhaar"
CASTE: Final = "caste"
RELIGION: Final = "religion"
VOTER_ID: Final = "voter id"

_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_JOINERS: Final = re.compile("[\u200c\u200d]")
_SPELT: Final = (("\u0901", "\u0902"), ("म्", "\u0902"), ("न्", "\u0902"), ("ई", "इ"), ("ी", "ि"))
"""In NFD without marks of other scripts: one spelling of nasals, and of the two i."""
_LONGEST: Final = 1000
_NUKTA: Final = "\u093c"
_SINGLE: Final = re.compile(r"(?<!\S)(?:[a-z] )+[a-z](?!\S)")

_AADHAAR: Final = re.compile(r"^a+d+h+a*r|aadh+a*r|^uid(?:ai)?(?:no|num|number|card)?$|^ja?nadhar")
_AADHAAR_HINDI: Final = re.compile(
    "^(?:जन)?(?:आ|अा|अ)धा?र|^जनाधार|^युआइडि|^آدھار|^আধার|^ਆਧਾਰ|^આધાર|^ଆଧାର|^ஆதார்|^ఆధార్|^ಆಧಾರ್|^ആധാർ"
)
_AADHAAR_SPELT: Final = ("aadhaar", "aadhar", "adhaar")
_EPIC: Final = re.compile("^epics?(?:no|num|number|id|card)*$|^(?:ए|ऐ|इ)पिक")
_VOTER: Final = re.compile("^vot[ae]r")
_ELECTOR: Final = re.compile(
    "^elector(?:al|s)?|^election|^matd[ae]a?ta|^mata?data|^मतदाता|^वोटर|^निर्वाच|^चुनाव"
)
_IDENTITY: Final = re.compile(
    "^(?:id|no|nos|num|number|nr|card|photo|identi[a-z]*|code|kramank|krama?nk|sankhya|pa?[he]+chan|parichay"
    "|patra?|idno|idcard|cardno)$|^(?:पहचान|परिचय|कार्ड|क्रमांक|क्रमाक|सं$|सख्या|संख्या|नंबर|नबर|नं$|न$|नो$"
    "|आइ|डि$|पत्र|फोटो|कोड)"
)
_IDENTITY_JOINED: Final = re.compile("id|no$|num|card|पहचान|परिचय|कार्ड|क्रमांक|संख्या|नंबर|आइडि|पत्र")
_CASTE: Final = re.compile(
    "^(?:sub|upa?)?castes?(?:name|code|category|group|no|type)?$|^cast$|^(?:sub|upa?)?ja+th?i(?:es|nam|ka)?$"
    "|^goth?ras?$|^birada?ri$|^(?:उप|अनु)?जाति|^गोत्र|^बिरादरि|^अनुसूचित|^पिछड|^ذات|^জাতি"
)
_GROUPS: Final = frozenset(
    {"sc", "st", "obc", "obcs", "ebc", "bc", "mbc", "gen", "general", "ews", "ur", "scst", "unreserved"}
)
_SURE_GROUPS: Final = frozenset({"obc", "ebc", "scst"})
_GROUP_CELLS: Final = frozenset({"sc", "st", "obc", "ebc", "mbc", "sc/st", "bc-1", "bc-2"})
_CATEGORY: Final = re.compile("^categor|^(?:वर्ग|श्रेणि|कोटि)$")
_RELIGION: Final = re.compile(
    "^reli?gi?o[nu]|^dharma?$|^ma[zj]a?hab|^sampraday?a?$|^(?:muslim|hindu|sikh|christian)s?$"
    "|^(?:धर्म|पंथ|संप्रदाय|सप्रदाय|मजहब|मुस्लिम|हिंदु|हिंदू)$|^धार्मिक|^مذہب|^ধর্ম$"
)
_WHOLE: Final = {
    "community": CASTE,
    "समुदाय": CASTE,
    "social category": CASTE,
    "social group": CASTE,
    "faith": RELIGION,
}

_ENOUGH: Final = 0.5
"""Share of a column's cells above which the column is taken for what they look like."""
_FEWEST: Final = 2
"""Cells that one cell alone would not tell from a handle or another register's number."""
_AADHAAR_CELL: Final = re.compile(r"(?!91[6-9])[2-9][0-9]{11}")
"""Not a mobile number with the country's code, of which one in ten passes the check."""
_EPIC_CELL: Final = re.compile(r"[A-Za-z]{3}[ /-]?[0-9]{7}|[A-Za-z]{2}/[0-9]{1,3}/[0-9]{1,3}/[0-9]{5,7}")
_SEPARATORS: Final = re.compile(r"[\s\-_.]+")
_D: Final = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
_P: Final = (
    *("0123456789", "1576283094", "5803796142", "8916043527"),
    *("9453126870", "4286573901", "2793806415", "7046913258"),
)
"""The tables of Verhoeff's scheme: multiplication of the dihedral group of order ten, and permutations."""


def forbidden_heading(heading: str) -> str | None:
    """Name the forbidden content that a heading tells of; None if the column is allowed."""
    words = _words(heading)
    if (whole := _WHOLE.get(" ".join(words))) is not None:
        return whole
    return next((what for what, holds in _HOLDS.items() if holds(words)), None)


def forbidden_cells(cells: Iterable[str]) -> str | None:
    """Name the forbidden content that most cells of a column look like. Blank cells do not count."""
    filled = [text for cell in cells if (text := ascii_digits(cell.strip().lstrip("'")))]
    for what, looks in _LOOKS.items():
        hits = sum(map(looks, filled))
        if hits >= _FEWEST and hits > _ENOUGH * len(filled):
            return what
    return None


def is_aadhaar(text: str) -> bool:
    """Whether it is an Aadhaar number by its form and check digit."""
    digits = _SEPARATORS.sub("", text)
    if not _AADHAAR_CELL.fullmatch(digits):
        return False
    check = "0"
    for place, digit in enumerate(reversed(digits)):
        check = _D[int(check)][int(_P[place % 8][int(digit)])]
    return check == "0"


def _words(heading: str) -> list[str]:
    """Words of letters alone, in one spelling: `AadhaarNo(12)` is `aadhaar no`, `ई.पी.आई.सी.` its letters."""
    text = unicodedata.normalize("NFKC", _CAMEL.sub(" ", clean(heading)[:_LONGEST]))
    text = unicodedata.normalize("NFD", _JOINERS.sub("", text).casefold())
    text = "".join(char for char in text if not "\u0300" <= char <= "\u036f" and char != _NUKTA)
    text = "".join(char if unicodedata.category(char)[0] in "LM" else " " for char in text)
    for written, meant in _SPELT:
        text = text.replace(written, meant)
    text = " ".join(text.split())
    return _SINGLE.sub(lambda letters: letters[0].replace(" ", ""), text).split()


def _is_aadhaar(words: Sequence[str]) -> bool:
    return any(
        _AADHAAR.search(word)
        or _AADHAAR_HINDI.search(word)
        or any(OSA.distance(word, spelt) <= 1 for spelt in _AADHAAR_SPELT)
        for word in words
    )


def _is_voter_id(words: Sequence[str]) -> bool:
    if any(_EPIC.search(word) or _VOTER.search(word) for word in words):
        return True
    electors = [word for word in words if _ELECTOR.search(word)]
    others = [word for word in words if word not in electors]
    joined = any(_IDENTITY_JOINED.search(_ELECTOR.sub("", word)) for word in electors)
    return bool(electors) and (joined or any(_IDENTITY.search(word) for word in others))


def _is_caste(words: Sequence[str]) -> bool:
    if any(_CASTE.search(word) or word in _SURE_GROUPS for word in words):
        return True
    groups = sum(word in _GROUPS for word in words)
    return groups > 1 or (groups == 1 and any(_CATEGORY.search(word) for word in words))


def _is_religion(words: Sequence[str]) -> bool:
    return any(_RELIGION.search(word) or OSA.distance(word, "religion") <= 1 for word in words)


_HOLDS: Final[Mapping[str, Callable[[Sequence[str]], bool]]] = {
    AADHAAR: _is_aadhaar,
    CASTE: _is_caste,
    RELIGION: _is_religion,
    VOTER_ID: _is_voter_id,
}
_LOOKS: Final[Mapping[str, Callable[[str], bool]]] = {
    AADHAAR: is_aadhaar,
    VOTER_ID: lambda text: _EPIC_CELL.fullmatch(text) is not None,
    CASTE: lambda text: text.casefold() in _GROUP_CELLS,
}
