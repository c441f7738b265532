"""Error codes of the WhatsApp Cloud API, with the HTTP status and the title that Meta documents.

Source: Meta, "WhatsApp error codes" (developers.facebook.com/documentation/business-messaging, June 2026),
and the table in the project's facts of the field. Titles and HTTP statuses of codes that the page groups
(200-299, 1312xx, 1330xx) are from memory of the same page: an adapter must look at `code` and
`error_data.details` only, as Meta advises. `by_status` says which errors usually arrive as a `failed` status
instead of an answer; Meta documents that the same error may come by either way, or both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

HREF: Final = "/documentation/business-messaging/whatsapp/support/error-codes"


@dataclass(frozen=True, slots=True)
class GraphError:
    """One code: its HTTP status, title, details, and whether it usually comes as a status."""

    code: int
    status: int
    title: str
    details: str
    by_status: bool = False

    def answer(self, trace: str, details: str | None = None) -> dict[str, Any]:
        """The body of an answer that refuses a request."""
        error: dict[str, Any] = {
            "message": f"(#{self.code}) {self.title}",
            "type": "OAuthException",
            "code": self.code,
        }
        if self.code not in BARE:
            error["error_data"] = {"messaging_product": "whatsapp", "details": details or self.details}
        error["fbtrace_id"] = trace
        return {"error": error}

    def in_status(self, details: str | None = None) -> dict[str, Any]:
        """The error object within a webhook."""
        return {
            "code": self.code,
            "title": self.title,
            "message": self.title,
            "error_data": {"details": details or self.details},
            "href": HREF,
        }


BARE: Final = frozenset({0, 3, 4, 10, 190, 200, 368})
"""Codes of the Graph API itself, whose answers have no `error_data`."""

_TABLE: Final = (
    # (code, HTTP status, title, details)
    (0, 401, "AuthException", "We were unable to authenticate the app user."),
    (1, 400, "API Unknown", "Invalid request or possible server error."),
    (2, 503, "API Service", "Temporary due to downtime or due to being overloaded."),
    (3, 500, "API Method", "Capability or permissions issue."),
    (4, 400, "API Too Many Calls", "The app has reached its API call rate limit."),
    (10, 403, "Permission Denied", "Permission is either not granted or has been removed."),
    (100, 400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."),
    (190, 401, "Access token has expired", "Your access token has expired."),
    (200, 403, "API Permission", "Permission is either not granted or has been removed."),
    (368, 403, "Temporarily blocked for policies violations", "The account violated a platform policy."),
    (80007, 400, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
    (130429, 400, "Rate limit hit", "Cloud API message throughput has been reached."),
    (
        130497,
        403,
        "Business account is restricted from messaging users in this country.",
        "Country restricted.",
    ),
    (131000, 500, "Something went wrong", "Message failed to send due to an unknown error."),
    (131005, 403, "Access denied", "Permission is either not granted or has been removed."),
    (131008, 400, "Required parameter is missing", "The request is missing a required parameter."),
    (131009, 400, "Parameter value is not valid", "One or more parameter values are invalid."),
    (131016, 500, "Service unavailable", "A service is temporarily unavailable."),
    (131020, 400, "Group cannot be found", "The group does not exist or was deleted."),
    (131021, 400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    (131030, 400, "Recipient phone number not in allowed list", "Add the number to the allowed list."),
    (
        131031,
        403,
        "Account has been locked",
        "The account was restricted or disabled for a policy violation.",
    ),
    (131037, 400, "Display name not approved", "The number's display name needs approval before messages."),
    (131041, 400, "Group is suspended", "No message can be sent to a suspended group."),
    (131042, 400, "Business eligibility payment issue", "There was an error related to your payment method."),
    (131044, 400, "Business eligibility payment issue", "The payment account is not attached."),
    (
        131045,
        500,
        "Incorrect certificate",
        "Message failed to send due to a phone number registration error.",
    ),
    (131048, 400, "Spam rate limit hit", "Too many previous messages were blocked or flagged as spam."),
    (131051, 400, "Unsupported message type", "The message type is unsupported."),
    (
        131056,
        400,
        "(Business Account, Consumer Account) pair rate limit hit",
        "Too many messages to one number.",
    ),
    (131057, 500, "Business Account is in maintenance mode", "A throughput upgrade may be under way."),
    (131062, 400, "Message type not allowed for this recipient", "Use the phone number of the recipient."),
    (
        131063,
        400,
        "Marketing templates are switched off",
        "Marketing messages are disabled for this account.",
    ),
    (131064, 400, "Template classification limit", "Limited due to template classification violations."),
    (
        132000,
        400,
        "Template Param Count Mismatch",
        "The number of variable values does not match the template.",
    ),
    (132001, 404, "Template name does not exist in the translation", "No such template in the language."),
    (132005, 400, "Template Hydrated Text Too Long", "The translated text is too long."),
    (132007, 400, "Template Format Character Policy Violated", "The content violates a policy."),
    (132008, 400, "Template Parameter Missing", "A parameter of the template is missing."),
    (132012, 400, "Template Parameter Format Mismatch", "Variable values are formatted incorrectly."),
    (132015, 400, "Template is Paused", "The template is paused due to low quality."),
    (132016, 400, "Template is Disabled", "The template was paused too often and is disabled."),
    (132068, 400, "Flow is in blocked state", "The flow is blocked."),
    (132069, 400, "Flow is in throttled state", "10 messages with this flow were sent in the last hour."),
    (133000, 500, "Incomplete Deregistration", "A previous deregistration attempt failed."),
    (133004, 503, "Server Temporarily Unavailable", "The server is temporarily unavailable."),
    (133005, 400, "Two step verification PIN Mismatch", "The PIN is incorrect."),
    (133006, 400, "Phone number re-verification needed", "Verify the phone number before registering it."),
    (133008, 400, "Too Many two step verification PIN Guesses", "Try again later."),
    (133009, 400, "Two step verification PIN Guessed Too Fast", "Wait before the next PIN."),
    (133010, 400, "Phone number Not Registered", "The number is not registered on the platform."),
    (133015, 400, "Please wait a few minutes before attempting to register", "Recently deleted."),
    (133016, 400, "Account register deregister rate limit exceeded", "Too many attempts in a short time."),
    (135000, 400, "Generic user error", "Message failed to send because of an unknown parameter error."),
    (137000, 400, "Identity key mismatch", "The recipient's identity key has changed."),
    *((code, 400, "Group message refused", "See the reference of groups.") for code in range(131201, 131216)),
)
_BY_STATUS: Final = (
    (
        130472,
        400,
        "User's number is part of an experiment",
        "Marketing to this user is part of an experiment.",
    ),
    (131026, 400, "Message undeliverable", "Unable to deliver message to this recipient."),
    (
        131047,
        400,
        "Re-engagement message",
        "More than 24 hours have passed since the recipient last replied.",
    ),
    (131049, 400, "not delivered", "per-user marketing limit"),
    (131050, 400, "User has stopped marketing messages", "The recipient chose to stop marketing messages."),
    (131052, 400, "Media download error", "The media sent could not be downloaded."),
    (131053, 400, "Media upload error", "The media of the message could not be uploaded."),
)

ERRORS: Final[dict[int, GraphError]] = {
    **{code: GraphError(code, status, title, details) for code, status, title, details in _TABLE},
    **{code: GraphError(code, status, title, details, True) for code, status, title, details in _BY_STATUS},
}
"""Every code of the facts' table."""


def error(code: int) -> GraphError:
    """The error with this code; codes from 200 to 299 are permissions.

    Raises: `KeyError`.
    """
    if 200 < code < 300:
        permission = ERRORS[200]
        return GraphError(code, permission.status, permission.title, permission.details)
    return ERRORS[code]
