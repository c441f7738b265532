"""Webhook payloads of the WhatsApp Business Account object, field by field as documented.

Source: Meta, "Messages webhooks reference" and "Webhooks reference" (2026), as in the project's facts of the
field, A1b; tests/unit/simulators/test_whatsapp_payloads.py holds every example of it against these functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.simulators.whatsapp.people import Person

Json = dict[str, Any]
FINAL: Final = frozenset({"read", "failed", "played"})
STATUSES: Final = ("sent", "delivered", "read", "failed", "played")


@dataclass(frozen=True, slots=True)
class Number:
    """The business account and its number."""

    waba_id: str = "900000000000001"
    phone_number_id: str = "900000000000002"
    display: str = "911140000000"

    @property
    def metadata(self) -> Json:
        return {"display_phone_number": self.display, "phone_number_id": self.phone_number_id}


@dataclass(frozen=True, slots=True)
class Update:
    """One thing to tell: an item of `statuses`, `messages`, ... or, without `section`, a whole account-level
    value. Updates with `contact` None add none to their value's `contacts`."""

    field: str
    item: Json
    section: str | None = None
    contact: Json | None = None


@dataclass(frozen=True, slots=True)
class Pricing:
    """The price of a message: `type` and `category` count; `billable` is to be deprecated."""

    category: str = "utility"
    type: str = "regular"
    billable: bool = True

    def as_json(self) -> Json:
        return {
            "billable": self.billable,
            "pricing_model": "PMP",
            "type": self.type,
            "category": self.category,
        }


def status(
    wamid: str,
    word: str,
    at: float,
    person: Person,
    *,
    to_phone: bool,
    opaque: str | None = None,
    pricing: Pricing | None = None,
    errors: Sequence[Json] = (),
) -> Update:
    """A status of an outgoing message.

    A failed one has no contact and names the recipient only as it was addressed; the others have the user's
    id too, and the phone unless it is withheld. `to_phone` says how the message was addressed.
    """
    failed = word == "failed"
    item: Json = {"id": wamid, "status": word, "timestamp": str(int(at))}
    if person.wa_id and (to_phone or (not failed and not person.withheld)):
        item["recipient_id"] = person.wa_id
    if not failed or not to_phone:
        item["recipient_user_id"] = person.user_id
    if opaque is not None:
        item["biz_opaque_callback_data"] = opaque
    if pricing is not None:
        item["pricing"] = pricing.as_json()
    if errors:
        item["errors"] = list(errors)
    contact = None
    if not failed:
        contact = person.contact(
            with_phone=to_phone or not person.withheld, with_username=word in ("delivered", "read")
        )
    return Update("messages", item, "statuses", contact)


def inbound(wamid: str, at: float, person: Person, kind: str, content: Json, context: Json | None) -> Update:
    """A message from a user; `content` stands under the name of its kind."""
    item: Json = {}
    if person.wa_id and not person.withheld:
        item["from"] = person.wa_id
    item |= {"from_user_id": person.user_id, "id": wamid, "timestamp": str(int(at)), "type": kind}
    if context is not None:
        item["context"] = context
    item[kind] = content
    return Update("messages", item, "messages", person.contact(with_phone=not person.withheld))


def identity_change(wamid: str, at: float, person: Person, kind: str, former_id: str, body: str) -> Update:
    """`user_changed_number` or `user_changed_user_id`: no contacts, and the phone only if it is told."""
    item: Json = {}
    system: Json = {"body": body, "type": kind}
    if person.wa_id and not person.withheld:
        item["from"] = person.wa_id
        system["wa_id"] = person.wa_id
    item |= {"id": wamid, "timestamp": str(int(at)), "type": "system"}
    system |= {"previous_user_id": former_id, "user_id": person.user_id}
    item["system"] = system
    return Update("messages", item, "messages")


def preference(at: float, person: Person, value: str) -> Update:
    """The user stopped or resumed marketing messages; the timestamp is an integer."""
    item = {
        "user_id": person.user_id,
        "detail": f"User requested to {value} marketing messages",
        "category": "marketing_messages",
        "value": value,
        "timestamp": int(at),
    }
    contact = person.contact(with_phone=not person.withheld)
    if not person.withheld and person.wa_id:
        item = {"wa_id": person.wa_id} | item
    return Update("user_preferences", item, "user_preferences", contact)


def value_of(updates: Sequence[Update], number: Number) -> Json:
    """The `value` of a change that holds updates of one field, contacts without repeats."""
    first = updates[0]
    if first.section is None:
        return first.item
    value: Json = {"messaging_product": "whatsapp", "metadata": number.metadata}
    contacts: dict[str, Json] = {}
    for update in updates:
        if update.contact is not None:
            known = contacts.setdefault(update.contact["user_id"], update.contact)
            if "username" in update.contact["profile"]:
                known["profile"] = update.contact["profile"]
    if contacts:
        value["contacts"] = list(contacts.values())
    for update in updates:
        assert update.section is not None
        value.setdefault(update.section, []).append(update.item)
    return value


def envelope(entries: Iterable[Json]) -> Json:
    """The whole body."""
    return {"object": "whatsapp_business_account", "entry": list(entries)}


def entry(number: Number, changes: Sequence[Json], time: float | None = None) -> Json:
    """One entry; those of account-level fields carry an integer `time`."""
    head: Json = {"id": number.waba_id}
    if time is not None:
        head["time"] = int(time)
    return head | {"changes": list(changes)}
