"""Message templates of the business account, and whether a send request fits one exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

MAX_HYDRATED: Final = 1_024
"""Characters of a body with its variables filled in (Meta, "Message templates")."""
STATUSES: Final = frozenset(
    {
        *("APPROVED", "REJECTED", "PENDING", "PAUSED", "DISABLED", "FLAGGED", "REINSTATED", "ARCHIVED"),
        *("UNARCHIVED", "DELETED", "PENDING_DELETION", "IN_APPEAL", "LOCKED", "LIMIT_EXCEEDED"),
    }
)
"""Events of `message_template_status_update`; a template with one of `SENDABLE` can be sent."""
SENDABLE: Final = frozenset({"APPROVED", "FLAGGED", "REINSTATED", "UNARCHIVED"})
_VARIABLE: Final = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_BREAKS: Final = re.compile(r"[\n\t]| {5,}")
_PARAMETERLESS: Final = frozenset({"request_contact_info", "phone_number", "copy_code"})


class UnfitError(Exception):
    """A request that does not fit its template: `code` and `details` of the answer."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


@dataclass(slots=False)
class Template:
    """A template in one language.

    `body`     with variables `{{name}}` or `{{1}}`
    `header`   None, `text`, `image`, `video` or `document`; `header_text` may have one variable
    `buttons`  their kinds in order: `quick_reply`, `url` (fixed), `url_variable`, `request_contact_info`, ...
    """

    name: str
    language: str
    body: str = ""
    category: str = "UTILITY"
    status: str = "APPROVED"
    header: str | None = None
    header_text: str = ""
    buttons: Sequence[str] = field(default_factory=tuple)
    id: int = 700_001

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Names, or numbers as text, in the order of their first use."""
        return tuple(dict.fromkeys(_VARIABLE.findall(self.body)))

    @property
    def named(self) -> bool:
        return any(not name.isdecimal() for name in self.variables)

    def fill(self, components: object) -> str:
        """The text that the recipient reads.

        Raises: `UnfitError` with 132000, 132005, 132008 or 132012.
        """
        parts = self._components(components)
        self._check_header(parts.get("header"))
        self._check_buttons(parts.get("buttons") or [])
        values = self._values(_parameters(parts.get("body")))
        text = _VARIABLE.sub(lambda match: values[match[1]], self.body)
        if len(text) > MAX_HYDRATED:
            raise UnfitError(132005, f"Translated text too long: {len(text)} > {MAX_HYDRATED}")
        return text

    def describe(self) -> dict[str, Any]:
        """As `GET /{waba}/message_templates` lists it."""
        components: list[dict[str, Any]] = []
        if self.header:
            header = {"type": "HEADER", "format": self.header.upper()}
            components.append(header | ({"text": self.header_text} if self.header == "text" else {}))
        components.append({"type": "BODY", "text": self.body})
        if self.buttons:
            kinds = [{"type": kind.upper().removesuffix("_VARIABLE")} for kind in self.buttons]
            components.append({"type": "BUTTONS", "buttons": kinds})
        return {
            "name": self.name,
            "parameter_format": "NAMED" if self.named else "POSITIONAL",
            "components": components,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "id": str(self.id),
        }

    def _components(self, components: object) -> dict[str, Any]:
        if components is None:
            return {}
        if not isinstance(components, list):
            raise UnfitError(132012, "components is not a list")
        parts: dict[str, Any] = {}
        for part in components:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "button":
                parts.setdefault("buttons", []).append(part)
            elif kind in ("header", "body") and kind not in parts:
                parts[kind] = part
            else:
                raise UnfitError(132012, f"unexpected component: {kind}")
        return parts

    def _values(self, parameters: list[dict[str, Any]]) -> dict[str, str]:
        if len(parameters) != len(self.variables):
            raise UnfitError(
                132000,
                f"body: number of localizable_params ({len(parameters)}) does not match the expected number "
                f"of params ({len(self.variables)})",
            )
        values: dict[str, str] = {}
        for place, parameter in enumerate(parameters, start=1):
            text = parameter.get("text")
            if parameter.get("type") != "text" or not isinstance(text, str) or not text:
                raise UnfitError(132012, f"body: parameter {place} is not a text")
            if _BREAKS.search(text):
                raise UnfitError(132012, "Param text cannot have new-line/tab characters or 5 or more spaces")
            name = parameter.get("parameter_name")
            if self.named:
                if name is None:
                    raise UnfitError(132012, f"body: parameter {place} has no parameter_name")
            elif name is not None:
                raise UnfitError(132012, f"body: parameter {place} of a positional template has a name")
            values[str(name if self.named else place)] = text
        if missing := set(self.variables) - values.keys():
            raise UnfitError(132008, f"body: missing parameter {', '.join(sorted(missing))}")
        return values

    def _check_header(self, part: Mapping[str, Any] | None) -> None:
        wanted = self.header if self.header != "text" or _VARIABLE.search(self.header_text) else None
        given = _parameters(part)
        if wanted is None and not given:
            return
        if wanted is None or len(given) != 1:
            raise UnfitError(132000, f"header: {len(given)} parameters, expected {int(wanted is not None)}")
        kind = given[0].get("type")
        if kind != wanted:
            raise UnfitError(132012, f"header: Format mismatch, expected {wanted.upper()}, received {kind}")
        content = given[0].get(wanted)
        if wanted == "text":
            fits = isinstance(content, str) and bool(content)
        else:
            fits = isinstance(content, dict) and bool(content.get("id") or content.get("link"))
        if not fits:
            raise UnfitError(132012, f"header: no {wanted}")

    def _check_buttons(self, parts: list[dict[str, Any]]) -> None:
        given: dict[int, dict[str, Any]] = {}
        for part in parts:
            index = str(part.get("index", ""))
            if not index.isdecimal() or int(index) >= len(self.buttons) or int(index) in given:
                raise UnfitError(132012, f"buttons: no button with index {index or 'missing'}")
            given[int(index)] = part
        for place, kind in enumerate(self.buttons):
            button = given.get(place)
            if button is None:
                if kind == "url_variable":
                    raise UnfitError(
                        131008, f"buttons: Button at index {place} of type Url requires a parameter"
                    )
                continue
            if kind in _PARAMETERLESS or kind == "url":
                raise UnfitError(132012, f"buttons: Button at index {place} takes no parameter")
            wanted = kind.removesuffix("_variable")
            if button.get("sub_type") != wanted:
                raise UnfitError(132012, f"buttons: Button at index {place} is no {button.get('sub_type')}")
            _check_button_parameter(place, wanted, _parameters(button))


def _check_button_parameter(index: int, kind: str, parameters: list[dict[str, Any]]) -> None:
    name = "payload" if kind == "quick_reply" else "text"
    if len(parameters) != 1 or parameters[0].get("type") != name:
        raise UnfitError(132012, f"buttons: Button at index {index} needs one parameter of type {name}")
    value = parameters[0].get(name)
    if not isinstance(value, str) or not value:
        raise UnfitError(132012, f"buttons: Button at index {index} has no {name}")


def _parameters(part: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    parameters = part.get("parameters") if part else None
    if parameters is None:
        return []
    if not isinstance(parameters, list) or not all(isinstance(each, dict) for each in parameters):
        raise UnfitError(132012, "parameters is not a list of objects")
    return parameters


class Templates:
    """The templates of an account by name and language; `lenient` takes an unknown one for approved."""

    def __init__(self, templates: Sequence[Template] = (), *, lenient: bool = False) -> None:
        self.lenient = lenient
        self._held = {(each.name, each.language): each for each in templates}

    def add(self, template: Template) -> None:
        """Add a template, or replace the one of the same name and language."""
        self._held[template.name, template.language] = template

    def get(self, name: str, language: str) -> Template | None:
        """The template, whatever its status."""
        return self._held.get((name, language))

    def __iter__(self) -> Any:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def sendable(self, name: object, language: object) -> Template | None:
        """The template to be sent; None when it is unknown and the account lenient.

        Raises: `UnfitError` with 132001, 132015 or 132016.
        """
        if not isinstance(name, str) or not isinstance(language, str):
            raise UnfitError(131008, "template.name and template.language.code are required")
        template = self._held.get((name, language))
        if template is None:
            if self.lenient:
                return None
            raise UnfitError(132001, f"template name ({name}) does not exist in {language}")
        match template.status:
            case "PAUSED":
                raise UnfitError(132015, f"template {name} is paused")
            case "DISABLED":
                raise UnfitError(132016, f"template {name} is disabled")
            case status if status not in SENDABLE:
                raise UnfitError(132001, f"template name ({name}) does not exist in {language}: {status}")
        return template
