"""One call for several messages: its request, and the three forms in which its answer may come.

Exotel documents the answer to a JSON body; that to a form, a list of what single calls answer, was seen in
its guides alone. An answer that does not fit the messages one by one is not believed: all outcomes are
unknown. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.notifications.channels.exotel.errors import refusal
from services.notifications.core.domain import OutcomeClass, SendOutcome
from services.notifications.core.parsing import identifier, mapping, objects, text_of, word
from services.notifications.core.providers import UNREADABLE, Answer, outcome_of

MOST: Final = 100
"""Messages in one call (Exotel, "Bulk SMS")."""
_OWN: Final = ("To", "Body", "EncodingType", "CustomField")
_TAKEN: Final = (200, 202, 207)
_DIGITS: Final = 10
"""An Indian number without its country code, which an answer may leave out."""
Single = Callable[[Answer], SendOutcome]
"""The outcome of the answer to a call for one message."""


def bulk_request(forms: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The body of one call, from the forms of single ones that are alike but for recipient and text."""
    common = {name: value for name, value in forms[0].items() if name not in _OWN}
    return {**common, "sms": [{name: form[name] for name in _OWN} for form in forms]}


def bulk_outcomes(answer: Answer, numbers: Sequence[str], single: Single) -> list[SendOutcome]:
    """The outcomes of messages to these numbers, in order."""
    if answer.status not in _TAKEN:
        return [single(answer)] * len(numbers)
    parts = _parts(answer)
    unknown = [SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)] * len(numbers)
    if len(parts) != len(numbers):
        return unknown
    if any(not _is_to(part, number) for part, number in zip(parts, numbers, strict=True)):
        return unknown
    return [_outcome(part, answer, single) for part in parts]


def _parts(answer: Answer) -> list[Mapping[str, Any]]:
    """The parts of the answer, one for each message, as a single call would answer it."""
    data = answer.data
    if isinstance(data, list):
        return list(objects(data, MOST))
    documented = list(objects(mapping(mapping(data).get("response")).get("sms"), MOST))
    if documented:
        return documented
    parts = list(objects(mapping(data).get("SMSMessage"), MOST))
    return [{"SMSMessage" if "Sid" in part else "RestException": part} for part in parts]


def _is_to(part: Mapping[str, Any], number: str) -> bool:
    """Whether a part is about this number, as far as it says."""
    told = text_of(part.get("To") or mapping(part.get("SMSMessage")).get("To"), 20)
    return told is None or told[-_DIGITS:] == number[-_DIGITS:]


def _outcome(part: Mapping[str, Any], answer: Answer, single: Single) -> SendOutcome:
    if "SMSMessage" in part:
        return single(Answer(200, dict(part)))
    if refused := mapping(part.get("RestException")):
        return single(Answer(_status(refused.get("Status")), dict(part), answer.retry_after))
    provider_id, status = identifier(part.get("Sid")), _status(part.get("StatusCode"))
    if provider_id is not None:
        return single(Answer(200, {"SMSMessage": dict(part)}))
    if status >= 400 and word(part.get("Status")) == "failed":
        return outcome_of(refusal(status), answer.retry_after, code=status)
    return SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)


def _status(value: object) -> int:
    """A status of HTTP; 0 for what is none."""
    found = text_of(value, 3)
    return int(found) if found is not None and found.isdecimal() else 0
