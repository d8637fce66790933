"""Credentials of a source, by the names that the clouds' tools use -> options of its store. Pure.

A source with credentials uses these alone: what could be mixed in from this process's environment
(a session token, an endpoint) is set here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from adapters.source_errors import SourceInvalid

ALLOWED_KEYS: Mapping[str, frozenset[str]] = {
    "s3": frozenset(
        {
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
            "AWS_ENDPOINT_URL",
        }
    ),
    "gs": frozenset({"GOOGLE_SERVICE_ACCOUNT_KEY"}),
    "az": frozenset(
        {
            "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_ENDPOINT",
        }
    ),
}  # fmt: skip
"""What a source's credentials may hold; anything else is refused, not ignored."""

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME",),
}


def store_options(scheme: str, credentials: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments for obstore's `from_url`.

    Raises:
        SourceInvalid: a key that this scheme does not know, or one that it needs is missing.
    """
    allowed = ALLOWED_KEYS[scheme]
    if not credentials.keys() <= allowed:
        # Never the names that were found: the secret may be somebody else's.
        names = ", ".join(sorted(allowed))
        raise SourceInvalid(problem=f"credentials of {scheme} may hold {names} and nothing else")
    for name in _REQUIRED[scheme]:
        if not credentials.get(name):
            raise SourceInvalid(problem=f"the credentials lack {name}")
    return _OPTIONS[scheme](credentials)


def _s3(given: Mapping[str, str]) -> dict[str, Any]:
    region = given.get("AWS_REGION") or "us-east-1"
    endpoint = given.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    credential = {
        "access_key_id": given["AWS_ACCESS_KEY_ID"],
        "secret_access_key": given["AWS_SECRET_ACCESS_KEY"],
        "token": given.get("AWS_SESSION_TOKEN") or None,
        "expires_at": None,
    }
    return {
        "region": region,
        **_endpoint(endpoint),
        "skip_signature": False,
        # Path style: what stores other than Amazon's own understand, and Amazon's too.
        "virtual_hosted_style_request": False,
        # A provider, because a plain key would be joined by the environment's session token.
        "credential_provider": lambda: credential,
    }


def _gs(given: Mapping[str, str]) -> dict[str, Any]:
    text = given["GOOGLE_SERVICE_ACCOUNT_KEY"]
    try:
        key = json.loads(text)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise SourceInvalid(problem="GOOGLE_SERVICE_ACCOUNT_KEY is not the JSON of a key")
    options: dict[str, Any] = {"service_account_key": text}
    # An emulator's key names its address.
    if (address := key.get("gcs_base_url")) is not None:
        options["client_options"] = _endpoint(str(address)).get("client_options", {})
    return options


def _az(given: Mapping[str, str]) -> dict[str, Any]:
    account = given["AZURE_STORAGE_ACCOUNT_NAME"]
    credential: dict[str, Any] = {"expires_at": None}
    if key := given.get("AZURE_STORAGE_ACCOUNT_KEY"):
        credential["access_key"] = key
    elif token := given.get("AZURE_STORAGE_SAS_KEY"):
        credential["sas_token"] = token
    else:
        problem = "the credentials lack AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY"
        raise SourceInvalid(problem=problem)
    default = f"https://{account}.blob.core.windows.net"
    return {
        "account_name": account,
        **_endpoint(given.get("AZURE_STORAGE_ENDPOINT") or default),
        "skip_signature": False,
        "use_emulator": False,
        # A provider, because a workload's own identity would win over a plain key, and be sent to
        # an endpoint that the credentials name.
        "credential_provider": lambda: credential,
    }


def _endpoint(url: str) -> dict[str, Any]:
    if not url.startswith(("https://", "http://")):
        raise SourceInvalid(problem="the endpoint is not an http(s) URL")
    options: dict[str, Any] = {"endpoint": url}
    if url.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    return options


_OPTIONS: Mapping[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
}
