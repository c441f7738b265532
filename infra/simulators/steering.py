"""Steering: how a gateway behaves towards a recipient, a template, or the next n requests.

A test says `gateway.steer(recipient="+919800000001", error=131056)` or `gateway.steer(next=3, fault="reset",
taken=True)`. Whatever a steering leaves open follows the gateway's preset (`presets.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from starlette.responses import HTMLResponse, Response

from infra.simulators.serving import Break, Hang

MAX_RULES: Final = 200_000
"""Steerings that a gateway keeps; one more is refused."""
MAX_SECONDS: Final = 3_600.0


class SteeringError(ValueError):
    """A steering that cannot be followed: an unknown field or word, a number out of bounds."""


class Fault(StrEnum):
    """Failures of the line and of what stands before a gateway.

    Whether the message of such a request was taken is `Behaviour.taken`: the caller cannot know.
    """

    RESET = "reset"
    """The connection is reset (RST) instead of an answer."""
    CLOSE = "close"
    """The connection is closed (FIN) without an answer."""
    HANG = "hang"
    """No answer, and the connection stays open."""
    HTML = "html"
    """An HTML page; `status` says with which HTTP status, 200 by default."""
    GARBAGE = "garbage"
    """200, or `status`, with a body that is called JSON and is none."""
    EMPTY = "empty"
    """200, or `status`, without a body."""
    THROTTLE = "throttle"
    """The gateway's own answer to too many requests."""


class Via(StrEnum):
    """Where an error is told: in the answer, in a later status, or in both."""

    ANSWER = "answer"
    STATUS = "status"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a gateway treats a message; None leaves a matter to the preset.

    `fault`    instead of the answer, see `Fault`
    `taken`    whether a message with a fault was taken all the same
    `status`   HTTP status of `html`, `garbage` and `empty`
    `latency`  seconds before the answer; the message is taken before them
    `error`    refusal: WhatsApp's code, Exotel's `Code` or HTTP status, SMTP's reply ("450 4.2.1 busy")
    `via`      where a WhatsApp error is told
    `outcome`  the last status: WhatsApp `sent delivered read silent` or an error code; Exotel a
               `DetailedStatus` or `silent`; SMTP `accepted` or `bounce`
    `pace`     seconds from taking to the first status, and between statuses
    `reply`    what the recipient answers after the last status
    `callback`  False: the status is reached and can be polled, but its callback never comes
    `message_status`  of WhatsApp's answer, such as `held_for_quality_assessment`
    """

    fault: Fault | None = None
    taken: bool | None = None
    status: int | None = None
    latency: float | None = None
    error: int | str | None = None
    via: Via | None = None
    outcome: int | str | None = None
    pace: float | None = None
    reply: str | None = None
    callback: bool | None = None
    message_status: str | None = None

    def over(self, other: Behaviour) -> Behaviour:
        """This behaviour where it says something, else `other`."""
        if other is NOTHING_SAID or self is other:
            return self
        return Behaviour(
            **{
                each: mine if (mine := getattr(self, each)) is not None else getattr(other, each)
                for each in _FIELDS
            }
        )


_FIELDS: Final = tuple(each.name for each in fields(Behaviour))
NOTHING_SAID: Final = Behaviour()


def behaviour(**said: Any) -> Behaviour:
    """The behaviour of these fields.

    Raises: `SteeringError`.
    """
    if unknown := said.keys() - set(_FIELDS):
        raise SteeringError(f"no such field: {', '.join(sorted(unknown))}")
    try:
        if said.get("fault") is not None:
            said["fault"] = Fault(said["fault"])
        if said.get("via") is not None:
            said["via"] = Via(said["via"])
        for seconds in ("latency", "pace"):
            if said.get(seconds) is not None and not 0 <= float(said[seconds]) <= MAX_SECONDS:
                raise SteeringError(f"{seconds} is not within 0 and {MAX_SECONDS:.0f}")
    except (TypeError, ValueError) as wrong:
        raise SteeringError(str(wrong)) from None
    return Behaviour(**said)


@dataclass(slots=True)
class _Rule:
    behaviour: Behaviour
    left: int | None
    """How often it still applies; None is for ever."""


class Steering:
    """The steerings of one gateway. The narrowest wins: a recipient's next n messages, the recipient, the
    next n requests, the template, all messages."""

    def __init__(self) -> None:
        self._recipients: dict[str, deque[_Rule]] = {}
        self._templates: dict[str, Behaviour] = {}
        self._requests: deque[_Rule] = deque()
        self._all = NOTHING_SAID
        self._count = 0

    def steer(
        self,
        said: Behaviour | None = None,
        *,
        recipient: str | None = None,
        template: str | None = None,
        next: int | None = None,
        after: int = 0,
        **also: Any,
    ) -> None:
        """Behave like this towards `recipient`, for `template`, for the `next` requests, or always.

        `next` with `recipient` counts that recipient's messages. `after` lets as many requests pass before.

        Raises: `SteeringError`.
        """
        said = behaviour(**also) if said is None else behaviour(**also).over(said)
        if self._count >= MAX_RULES:
            raise SteeringError(f"more than {MAX_RULES} steerings")
        if template is not None and (recipient is not None or next is not None):
            raise SteeringError("a template's steering has no recipient and no number")
        if next is not None and next < 1:
            raise SteeringError("next is not positive")
        self._count += 1
        if recipient is not None:
            rules = self._recipients.setdefault(recipient, deque())
            if next is None:  # replaces an earlier one, and comes after the limited ones
                kept = [rule for rule in rules if rule.left is not None]
                rules.clear()
                rules.extend(kept)
                rules.append(_Rule(said, None))
            else:
                unlimited = [rule for rule in rules if rule.left is None]
                for rule in unlimited:
                    rules.remove(rule)
                if after:
                    rules.append(_Rule(NOTHING_SAID, after))
                rules.append(_Rule(said, next))
                rules.extend(unlimited)
        elif template is not None:
            self._templates[template] = said
        elif next is not None:
            if after:
                self._requests.append(_Rule(NOTHING_SAID, after))
            self._requests.append(_Rule(said, next))
        else:
            self._all = said

    def clear(self) -> None:
        """Forget every steering."""
        self._recipients.clear()
        self._templates.clear()
        self._requests.clear()
        self._all = NOTHING_SAID
        self._count = 0

    def request(self) -> Behaviour:
        """The behaviour of the next request; counts it."""
        return _take(self._requests)

    def message(
        self, names: Iterable[str], template: str | None, request: Behaviour, preset: Behaviour
    ) -> Behaviour:
        """The behaviour of a message to a recipient, known by one or several names; counts it."""
        said = NOTHING_SAID
        for name in names:
            if (rules := self._recipients.get(name)) and (said := _take(rules)) is not NOTHING_SAID:
                break
        for next_best in (
            request,
            self._templates.get(template, NOTHING_SAID) if template else NOTHING_SAID,
            self._all,
            preset,
        ):
            if next_best is not NOTHING_SAID:
                said = said.over(next_best) if said is not NOTHING_SAID else next_best
        return said


def _take(rules: deque[_Rule]) -> Behaviour:
    if not rules:
        return NOTHING_SAID
    rule = rules[0]
    if rule.left is not None:
        rule.left -= 1
        if not rule.left:
            rules.popleft()
    return rule.behaviour


def faulty_answer(  # noqa: PLR0911 - one for each fault
    said: Behaviour, throttled: Callable[[], Response]
) -> Response | None:
    """The answer of a fault, or None without one; `throttled` makes the gateway's own for `throttle`."""
    status = said.status or 200
    match said.fault:
        case None:
            return None
        case Fault.RESET | Fault.CLOSE:
            return Break(reset=said.fault is Fault.RESET)
        case Fault.HANG:
            return Hang()
        case Fault.HTML:
            return HTMLResponse(
                "<!DOCTYPE html><html><head><title>Bad Gateway</title></head>"
                "<body><h1>Something went wrong</h1></body></html>",
                status,
            )
        case Fault.GARBAGE:
            return Response(b'{"messages": [{"id": "wam', status, media_type="application/json")
        case Fault.EMPTY:
            return Response(b"", status, media_type="application/json")
        case Fault.THROTTLE:
            return throttled()
