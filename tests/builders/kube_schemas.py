"""Whether a version of Kubernetes takes an object: its own schemas, from an installed package."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

VERSIONS = tuple(f"1.{minor}" for minor in range(30, 38))
_FOLDER = "kubernetes-json-schema/v{version}.0-local-strict"


def schema_problems(body: dict[str, Any], version: str) -> list[str]:
    """What this version refuses in the object, unknown fields included.

    Raises:
        FileNotFoundError: this version has no such kind.
    """
    validator = _validator(version, body["kind"], body["apiVersion"])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]


@cache
def _validator(version: str, kind: str, api_version: str) -> jsonschema.Draft202012Validator:
    # rbac.authorization.k8s.io/v1 is rbac-v1 in the files' names.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = _contents(version, f"{kind.lower()}-{group}.json")
    registry = _definitions(version)
    return jsonschema.Draft202012Validator(
        schema, registry=Resource.from_contents(schema) @ registry
    )


@cache
def _definitions(version: str) -> Registry[Any]:
    return Resource.from_contents(_contents(version, "_definitions.json")) @ Registry()


def _contents(version: str, name: str) -> Any:
    return schema_contents(f"{_FOLDER.format(version=version)}/{name}", version)
