"""Validate manifests against the API schemas: `kubectl kustomize DIR | python validate.py 1.34.0 CRD.yaml
...`

A field unknown to the schema is an error, and so is a kind without a schema.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

Document = dict[str, Any]
Schemas = dict[tuple[str, str], Document]


def definitions(files: Sequence[str]) -> Schemas:
    """The schemas of custom resources, by apiVersion and kind."""
    schemas = {}
    for file in files:
        for crd in yaml.safe_load_all(Path(file).read_text()):
            spec = crd["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                schemas[name] = schema
    return schemas


def closed(schema: Any) -> Any:
    """The same schema, but closed: objects may have no unknown fields, as with `kubectl
    --validate=strict`."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    free = "additionalProperties" in made or made.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not free:
        made["additionalProperties"] = False
    return made


def faults(document: Document, version: str, custom: Schemas) -> Iterator[str]:
    """The errors of one manifest, a line each."""
    kind = document["apiVersion"], document["kind"]
    if kind in custom:
        for fault in jsonschema.Draft7Validator(custom[kind]).iter_errors(document):
            yield f"{'.'.join(map(str, fault.absolute_path))}: {fault.message}"
        return
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as fault:
        yield f"{'.'.join(map(str, fault.path))}: {fault.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield "no schema is known for it"


def main(version: str, *files: str) -> int:
    documents, custom = list(yaml.safe_load_all(sys.stdin)), definitions(files)
    found = [
        f"{document['kind']}/{document['metadata']['name']}: {fault}"
        for document in documents
        for fault in faults(document, version, custom)
    ]
    print("\n".join(found) if found else f"{len(documents)} manifests are valid")
    return 1 if found or not documents else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
