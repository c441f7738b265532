"""Errors of the Cloud API by what they mean.

Source: Meta, "Error codes" of the WhatsApp Business Platform, read September 2026, and the error list of pywa
4.5.0 (`pywa/errors.py`). Only `code` counts: titles and messages change. One and the same error may come in
the answer, in a callback, or in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from services.notifications.core.domain import Meaning
from services.notifications.core.providers import ProviderError

_BUSY: Final = ProviderError(Meaning.RETRY, "provider_busy")
_THROTTLED: Final = ProviderError(Meaning.RETRY, "throttled")
_NO_ACCESS: Final = ProviderError(Meaning.CHANNEL, "no_access")
_ACCOUNT: Final = ProviderError(Meaning.CHANNEL, "account_stopped")
_NUMBER: Final = ProviderError(Meaning.NUMBER, "number_stopped")
_BUG: Final = ProviderError(Meaning.BUG, "bad_request")
_UNDELIVERABLE: Final = ProviderError(Meaning.RECIPIENT, "undeliverable")
_TEMPLATE: Final = ProviderError(Meaning.TEMPLATE, "template_refused")
_TEMPLATE_STOPPED: Final = ProviderError(Meaning.TEMPLATE, "template_stopped")
_MEDIA: Final = ProviderError(Meaning.MESSAGE, "media_failed")
_GROUP: Final = ProviderError(Meaning.MESSAGE, "group_refused")
UNKNOWN: Final = ProviderError(Meaning.MESSAGE, "unknown_error")
"""A code that the table does not have: this message fails, and the code is kept with its delivery."""


def _each(codes: Iterable[int], error: ProviderError) -> dict[int, ProviderError]:
    return dict.fromkeys(codes, error)


BY_CODE: Final[Mapping[int, ProviderError]] = {
    **_each((0, 190), _NO_ACCESS),  # the token is wrong or has expired
    **_each((3, 10, 131005, *range(200, 300)), _NO_ACCESS),  # permissions
    **_each((4, 80007), _THROTTLED),  # calls of the app, of the business account
    130429: _THROTTLED,  # messages per second
    131056: ProviderError(Meaning.PAIR, "pair_rate"),
    131048: _NUMBER,  # a spam limit on the number
    131064: _ACCOUNT,  # templates were classified wrongly
    **_each((368, 131031), _ACCOUNT),  # a breach of policy, locked
    130497: ProviderError(Meaning.ROUTE, "country_barred"),
    **_each((1, 2, 131000, 131016, 131057, 133004), _BUSY),
    **_each((100, 131008, 131009, 131051), _BUG),
    131021: _UNDELIVERABLE,  # the recipient is the sender
    131026: _UNDELIVERABLE,  # no WhatsApp, terms not accepted, an old client, blocked: it is no opt-out
    131030: ProviderError(Meaning.MESSAGE, "not_on_test_list"),
    **_each((131042, 131044), _ACCOUNT),  # payment
    **_each((131045, 133010), _NUMBER),  # not registered
    131037: _NUMBER,  # its display name is not approved
    131063: _ACCOUNT,  # marketing templates are switched off
    131047: ProviderError(Meaning.ROUTE, "window_closed"),  # only a template goes
    131049: ProviderError(Meaning.DEFER, "marketing_limit"),
    131050: ProviderError(Meaning.CONSENT, "stopped_at_provider"),
    **_each((131052, 131053), _MEDIA),
    131062: ProviderError(Meaning.ROUTE, "needs_phone"),  # not to a business-scoped id
    130472: ProviderError(Meaning.MESSAGE, "experiment"),  # Meta withholds it from some people at random
    **_each((132000, 132001, 132005, 132007, 132008, 132012), _TEMPLATE),
    **_each((132015, 132016), _TEMPLATE_STOPPED),  # paused, disabled
    **_each((132068, 132069), _TEMPLATE_STOPPED),  # its Flow is blocked, throttled
    **_each((133000, 133005, 133006, 133008, 133009, 133015, 133016), _NUMBER),  # registration: a person acts
    135000: _BUSY,  # without a reason
    137000: ProviderError(Meaning.RECIPIENT, "identity_changed"),
    **_each((131020, 131041, *range(131201, 131216)), _GROUP),
    **_each((131204, 131208), _THROTTLED),  # limits of groups
}


def error_of(code: int | None, *, status: int = 400) -> ProviderError:
    """The meaning of a code. One that is unknown, with a status of the server's own faults, may pass."""
    if code is not None and code in BY_CODE:
        return BY_CODE[code]
    return _BUSY if status >= 500 else UNKNOWN
