"""Walls inside the services, checked by import-linter (`make lint`); a new feature needs no entry here.

A service is a package below `services` other than `shared`; each of its subpackages but `core` is a feature.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

SERVICES = "services"
SHARED = "shared"
CORE = "core"
COMPOSERS = frozenset({"app", "__main__"})
"""Files of a service that may import features."""


class _DirectImports(Contract):
    """Base of the contracts: reports the forbidden imports that `violations` finds."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found = sorted(set(self.violations(graph)))
        return ContractCheck(kept=not found, metadata={"violations": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["violations"]:
            output.print_error(f"{importer} must not import {imported}")
            output.new_line()

    @abstractmethod
    def violations(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        """Importer and imported module of each forbidden import."""


class FeaturesContract(_DirectImports):
    """Features of one service do not import each other; the core imports none; only app.py and `__main__`
    do."""

    type_name = "features"

    def violations(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        for service in _services(graph):
            features = _features(graph, service)
            for feature in features:
                for module in {feature} | graph.find_descendants(feature):
                    for importer in graph.find_modules_that_directly_import(module):
                        if not _may_import(importer, service, feature):
                            yield importer, module


class OnlyInContract(_DirectImports):
    """Within the services, only files named in `files` import `modules`."""

    type_name = "only_in"

    modules = fields.ListField(subfield=fields.StringField())
    files = fields.SetField(subfield=fields.StringField())

    def violations(self, graph: ImportGraph) -> Iterator[tuple[str, str]]:
        packages = tuple(f"{service}." for service in _services(graph))
        for wanted in self.modules:  # type: ignore[attr-defined]
            known = {wanted} & graph.modules | (
                set() if graph.is_module_squashed(wanted) else graph.find_descendants(wanted)
            )
            for module in known:
                for importer in graph.find_modules_that_directly_import(module):
                    if importer.startswith(packages) and importer.rpartition(".")[2] not in self.files:  # type: ignore[operator]
                        yield importer, module


def _services(graph: ImportGraph) -> list[str]:
    return sorted(graph.find_children(SERVICES) - {f"{SERVICES}.{SHARED}"})


def _features(graph: ImportGraph, service: str) -> list[str]:
    """The subpackages of a service; a module without children is a file, such as settings.py."""
    return sorted(
        child for child in graph.find_children(service) - {f"{service}.{CORE}"} if graph.find_children(child)
    )


def _may_import(importer: str, service: str, feature: str) -> bool:
    within = importer == feature or importer.startswith(f"{feature}.")
    return (
        within
        or importer in {f"{service}.{name}" for name in COMPOSERS}
        or not importer.startswith(f"{service}.")
    )
