"""Telephone numbers: typed text becomes E.164, and E.164 becomes a keyed fingerprint to find it by."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberFormat, PhoneNumberType

from services.shared.text import clean, refuse

REGION: Final = "IN"
_INDIA: Final = 91
_LONGEST_TYPED: Final = 64

# Indian mobile numbers have ten digits and begin with 6 to 9 (National Numbering Plan, TRAI). New series are
# handed out faster than libphonenumber's tables follow: the plan decides for India, the tables elsewhere.
_INDIAN_MOBILE: Final = re.compile(r"(?:\+?91|0)?([6-9][0-9]{9})")
_MOBILE_PART: Final = re.compile(r"[6-9][0-9]{9}")
_NOT_A_PERSON: Final = frozenset(
    {
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
        PhoneNumberType.PAGER,
    }
)


def normalise(typed: str) -> str:
    """The E.164 form of a number a person can be reached at; without a country code it is Indian.

    Digits of any script, spaces and punctuation are understood; letters and extensions are not.

    Raises: `PydanticCustomError` that does not repeat the number.
    """
    if len(typed) > _LONGEST_TYPED:
        raise refuse("is not a telephone number")
    text = clean(typed)
    mobile = _INDIAN_MOBILE.fullmatch(text)
    return f"+91{mobile[1]}" if mobile else _by_the_tables(text)


def _by_the_tables(text: str) -> str:
    if any(char.isalpha() for char in text):
        raise refuse("is not a telephone number")
    try:
        number = phonenumbers.parse(text, REGION)
    except phonenumbers.NumberParseException:
        raise refuse("is not a telephone number") from None
    if number.extension is not None or not _reaches_a_person(number):
        raise refuse("is not a telephone number that reaches a person")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _reaches_a_person(number: PhoneNumber) -> bool:
    national = phonenumbers.national_significant_number(number)
    if number.country_code == _INDIA and _MOBILE_PART.fullmatch(national):
        return True
    return phonenumbers.is_valid_number(number) and phonenumbers.number_type(number) not in _NOT_A_PERSON


class BlindIndex:
    """Finds an encrypted number by equality alone: HMAC-SHA256 under a key the database never sees.

    Without the key, nobody can try the ten billion Indian numbers against it, as with a plain hash.
    """

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)

    def of(self, e164: str) -> str:
        """44 characters of base64."""
        return base64.b64encode(self.digest(e164.encode())).decode()

    def digest(self, secret: bytes) -> bytes:
        """32 bytes, for other secrets that must be compared without being stored."""
        mac = self._keyed.copy()
        mac.update(secret)
        return mac.digest()
