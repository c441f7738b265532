"""Reads callbacks of the Cloud API: every update of every change of every entry. Pure.

One callback may carry a thousand updates on three levels. A field that is missing, of another type or too
long costs that update alone, and what is not known is skipped and counted. `contacts` may be missing, hold
another person, or be without a number, so a person is taken from the update itself first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeAlias

import orjson

from services.notifications.channels.whatsapp.errors import error_of
from services.notifications.core.domain import Meaning
from services.notifications.core.parsing import (
    identifier,
    instant,
    mapping,
    objects,
    phone,
    shortened,
    text_of,
    word,
)
from services.notifications.core.updates import (
    Delivery,
    IdentityChanged,
    Inbound,
    LimitTold,
    Notice,
    Person,
    PreferenceChanged,
    Report,
    Update,
)

MAX_BODY: Final = 4 * 1024 * 1024
"""Meta sends up to 3 MB."""
MAX_EACH: Final = 1000
"""Entries of a callback, changes of an entry, updates of a change: Meta batches up to 1,000 in all."""
MAX_UPDATES: Final = 10_000
OBJECT: Final = "whatsapp_business_account"
_USER_ID: Final = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,160}", re.ASCII)
_STATUS: Final[Mapping[str, Delivery]] = {
    "sent": Delivery.SENT,
    "delivered": Delivery.DELIVERED,
    "read": Delivery.READ,
    "played": Delivery.READ,  # a voice note, since March 2026
    "failed": Delivery.FAILED,
}
_TEMPLATE_STOPS: Final = frozenset(
    [
        "rejected",
        "paused",
        "disabled",
        "archived",
        "deleted",
        "pending_deletion",
        "in_appeal",
        "locked",
        "pending",
        "limit_exceeded",
    ]
)
_TEMPLATE_GOES: Final = frozenset(["approved", "reinstated", "unarchived", "flagged"])
_ACCOUNT_STOPS: Final = frozenset(["disabled_update", "account_deleted", "account_offboarded"])
_ACCOUNT_GOES: Final = frozenset(["account_reconnected"])
_RESTRICTIONS: Final = frozenset(["restricted_biz_initiated_messaging", "restricted_utility_templates"])
"""Restrictions that keep our messages back; others keep back what we do not do."""
_LONGEST: Final = timedelta(days=366)
_BAN_LIFTED: Final = "reinstate"
_LIMIT: Final = "max_daily_conversations_per_business"
_TIERS: Final[Mapping[str, int | None]] = {
    "tier_50": 50,
    "tier_250": 250,
    "tier_1k": 1_000,
    "tier_2k": 2_000,
    "tier_10k": 10_000,
    "tier_100k": 100_000,
    "tier_unlimited": None,
}
"""Meta's documents give the limit as a word in one place and as a number in another; both come."""
_MAX_LIMIT: Final = 10**9
_UNINTERESTING: Final = "message_template_quality_update"
_KINDS: Final = frozenset(
    [
        "text",
        "button",
        "interactive",
        "image",
        "audio",
        "video",
        "document",
        "sticker",
        "location",
        "contacts",
        "order",
        "unknown",
        "unsupported",
    ]
)
"""Kinds of messages that are an answer; a reaction is none."""

_Read: TypeAlias = Update | None
"""None is skipped and counted."""


def parse(body: bytes, received_at: datetime) -> tuple[list[Update], int]:
    """The updates, in order, and how many were skipped.

    Raises: `ValueError` for a body that is no callback of the Cloud API.
    """
    if len(body) > MAX_BODY:
        raise ValueError("too large")
    callback = orjson.loads(body)
    if not isinstance(callback, dict) or callback.get("object") != OBJECT:
        raise ValueError("not of a WhatsApp account")
    updates: list[Update] = []
    skipped = 0
    for read in islice(_all(callback, received_at), MAX_UPDATES):
        if read is None:
            skipped += 1
        else:
            updates.append(read)
    return updates, skipped


def _all(callback: Mapping[str, Any], received_at: datetime) -> Iterator[_Read]:
    for entry in objects(callback.get("entry"), MAX_EACH):
        at = instant(entry.get("time"), received_at)
        account = identifier(entry.get("id"))
        for change in objects(entry.get("changes"), MAX_EACH):
            field, value = word(change.get("field")), mapping(change.get("value"))
            match field:
                case "messages":
                    yield from _messages(value, received_at)
                case "user_preferences":
                    known = _contacts(value)
                    for each in objects(value.get("user_preferences"), MAX_EACH):
                        yield _preference(each, known, received_at)
                case "message_template_status_update":
                    yield _template(value, at)
                case "account_update":
                    yield from _account(value, account, at)
                case "phone_number_quality_update" | "business_capability_update":
                    yield from _limit(value, at)
                case _ if field != _UNINTERESTING:
                    yield None


def _messages(value: Mapping[str, Any], received_at: datetime) -> Iterator[_Read]:
    metadata = mapping(value.get("metadata"))
    to = phone(metadata.get("display_phone_number"))
    known = _contacts(value)
    for each in objects(value.get("statuses"), MAX_EACH):
        yield _status(each, received_at)
    for each in objects(value.get("messages"), MAX_EACH):
        if each.get("type") == "system":
            yield _identity(each, received_at)
        elif each.get("type") != "reaction":
            yield _inbound(each, known, to, received_at)


def _contacts(value: Mapping[str, Any]) -> Sequence[Person]:
    return [
        Person(phone(each.get("wa_id")), _user_id(each.get("user_id")))
        for each in objects(value.get("contacts"), MAX_EACH)
    ]


def _status(status: Mapping[str, Any], received_at: datetime) -> _Read:
    provider_id = identifier(status.get("id"))
    reached = _STATUS.get(word(status.get("status")) or "")
    if provider_id is None or reached is None:
        return None
    of_group = status.get("recipient_type") == "group"  # then the recipient is the group
    names = ("recipient_participant_id", "recipient_participant_user_id")
    number, user_id = names if of_group else ("recipient_id", "recipient_user_id")
    code = meaning = error_class = None
    if reached is Delivery.FAILED:
        # The first error is the cause.
        found = next(objects(status.get("errors"), 1), {}).get("code")
        whole = found if isinstance(found, int) and not isinstance(found, bool) else None
        error = error_of(whole)
        code, meaning, error_class = text_of(found, 20), error.meaning, error.word
    return Report(
        provider_id=provider_id,
        reference=identifier(status.get("biz_opaque_callback_data")),
        status=reached,
        at=instant(status.get("timestamp"), received_at),
        code=code,
        meaning=meaning,
        error_class=error_class,
        person=Person(phone(status.get(number)), _user_id(status.get(user_id))),
        category=word(mapping(status.get("pricing")).get("category")),
    )


def _inbound(
    message: Mapping[str, Any], known: Sequence[Person], to: str | None, received_at: datetime
) -> _Read:
    provider_id = identifier(message.get("id"))
    person = _completed(Person(phone(message.get("from")), _user_id(message.get("from_user_id"))), known)
    kind = word(message.get("type"))
    if provider_id is None or person == Person() or kind not in _KINDS:
        return None
    text: object = None
    payload: object = None
    match kind:
        case "text":
            text = mapping(message.get("text")).get("body")
        case "button":
            button = mapping(message.get("button"))
            text, payload = button.get("text"), button.get("payload")
        case "interactive":
            interactive = mapping(message.get("interactive"))
            reply = mapping(interactive.get("button_reply")) or mapping(interactive.get("list_reply"))
            text, payload = reply.get("title"), reply.get("id")
    return Inbound(
        provider_id=provider_id,
        person=person,
        at=instant(message.get("timestamp"), received_at),
        to=to,
        text=shortened(text),
        payload=text_of(payload, 256),
        answers=identifier(mapping(message.get("context")).get("id")),
    )


def _completed(person: Person, known: Sequence[Person]) -> Person:
    """With what `contacts` add, if one of them is surely the same person."""
    if person.user_id is not None and person.phone is not None:
        return person
    same = [
        each
        for each in known
        if (person.user_id is not None and each.user_id == person.user_id)
        or (person.phone is not None and each.phone == person.phone)
    ]
    if len(same) != 1:
        return person
    return Person(person.phone or same[0].phone, person.user_id or same[0].user_id)


def _identity(message: Mapping[str, Any], received_at: datetime) -> _Read:
    provider_id, system = identifier(message.get("id")), mapping(message.get("system"))
    kind = system.get("type")
    if provider_id is None or kind not in ("user_changed_number", "user_changed_user_id"):
        return None
    person = Person(phone(system.get("wa_id")), _user_id(system.get("user_id")))
    previous, number = _user_id(system.get("previous_user_id")), phone(message.get("from"))
    if person == Person() or (previous is None and number is None):
        return None
    return IdentityChanged(
        provider_id, person, previous, instant(message.get("timestamp"), received_at), number
    )


def _preference(preference: Mapping[str, Any], known: Sequence[Person], received_at: datetime) -> _Read:
    person = _completed(Person(phone(preference.get("wa_id")), _user_id(preference.get("user_id"))), known)
    said, category = word(preference.get("value")), word(preference.get("category"))
    if person == Person() or said not in ("stop", "resume") or category is None:
        return None
    at = instant(preference.get("timestamp"), received_at)
    return PreferenceChanged(person, category, said == "stop", at)


def _template(value: Mapping[str, Any], at: datetime) -> _Read:
    name, event = identifier(value.get("message_template_name")), word(value.get("event"))
    if name is None or event not in _TEMPLATE_STOPS | _TEMPLATE_GOES:
        return None
    meaning = Meaning.TEMPLATE if event in _TEMPLATE_STOPS else None
    language = word(value.get("message_template_language"))
    # It comes as `en-US` and as `en_US`.
    return Notice(name, event, at, meaning, language.replace("-", "_") if language else None)


def _account(value: Mapping[str, Any], account: str | None, at: datetime) -> Iterator[_Read]:
    """Partners, prices and the like change nothing for us; such events are no news."""
    event = word(value.get("event"))
    if account is None or event is None:
        yield None
    elif event == "account_restriction":
        for each in objects(value.get("restriction_info"), 20):
            kind = word(each.get("restriction_type"))
            if kind in _RESTRICTIONS:
                until = instant(each.get("expiration"), at, ahead=_LONGEST)
                yield Notice(account, kind, at, Meaning.CHANNEL, until=until if until > at else None)
    elif event == "disabled_update":
        lifted = word(mapping(value.get("ban_info")).get("waba_ban_state")) == _BAN_LIFTED
        yield Notice(account, event, at, None if lifted else Meaning.CHANNEL)
    elif event in _ACCOUNT_STOPS:
        yield Notice(account, event, at, Meaning.CHANNEL)
    elif event in _ACCOUNT_GOES:
        yield Notice(account, event, at)


def _limit(value: Mapping[str, Any], at: datetime) -> Iterator[_Read]:
    """Both fields tell of other things, too; without a limit they are no news."""
    told = value.get(_LIMIT)
    if told is None:
        return
    if isinstance(told, str):
        tier = word(told) or ""
        yield LimitTold(_TIERS[tier], at) if tier in _TIERS else None
    else:
        whole = isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= _MAX_LIMIT
        yield LimitTold(told, at) if whole else None


def _user_id(value: object) -> str | None:
    found = identifier(value)
    return found if found and _USER_ID.fullmatch(found) else None
