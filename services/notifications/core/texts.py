"""Rendering of the Jinja2 templates `<name>.<language>.j2` in this folder.

A language without a template falls back to Hindi, which speakers of Bihar's other languages read. The
templates get data that people typed, so they run in Jinja2's sandbox; a missing variable is an error, not an
empty place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from services.shared.contracts.vocabulary import Language

FALLBACK: Final = Language.HINDI.value
DIRECTORY: Final = Path(__file__).parents[1] / "templates"


class UnrenderableError(Exception):
    """The template cannot be rendered. The error does not quote the values, which are personal."""


class Texts:
    """Every template in `directory`, compiled once.

    Raises: `jinja2.TemplateSyntaxError` for one that cannot be parsed; `ValueError` for one without Hindi.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        # Autoescape is for HTML; these are plain text, and other services have cleaned the values.
        machine = SandboxedEnvironment(
            loader=FileSystemLoader(directory), undefined=StrictUndefined, autoescape=False
        )
        names = [file.name for file in sorted(directory.glob("*.j2"))]
        self._templates = {tuple(name.split(".")[:2]): machine.get_template(name) for name in names}
        if orphans := {name for name, _ in self._templates if (name, FALLBACK) not in self._templates}:
            raise ValueError(f"without a {FALLBACK} version: {', '.join(sorted(orphans))}")

    def language_for(self, name: str, language: str) -> str:
        """The language in which `name` is sent to a member who speaks `language`."""
        return language if (name, language) in self._templates else FALLBACK

    def render(self, name: str, language: str, values: Mapping[str, str]) -> str:
        """Raises: `UnrenderableError`."""
        try:
            return self._templates[name, language].render(values).strip()
        except (TemplateError, KeyError) as error:
            raise UnrenderableError(f"{name}.{language}: {type(error).__name__}") from None


def in_language(names: Mapping[str, str], language: str) -> str:
    """Pick a name by language: in `language`, else in Hindi, else in any language there is.

    Raises: `UnrenderableError` when there is none.
    """
    found = names.get(language) or names.get(FALLBACK) or next(iter(names.values()), "")
    if not found:
        raise UnrenderableError("no name")
    return found
