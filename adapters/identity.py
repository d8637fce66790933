"""Names of things: tenants, adapters, versions, digests.

Every name that reaches the engine, a path, a metric label or a URL passes through here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from adapters.errors import InvalidName, ReservedName

TenantId = NewType("TenantId", str)
AdapterName = NewType("AdapterName", str)
Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits; addresses one artifact for ever."""

MAX_NAME_LENGTH = 63
"""A DNS label, so that a name can become a Kubernetes object's name."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

# vLLM 0.32 applies an adapter whose name equals the first word of a content part's type to
# base-model chats (OpenAIServingModels._get_active_default_mm_loras); the rest are our route words.
RESERVED_NAMES = frozenset(
    {
        "text", "image", "audio", "video", "input", "output", "thinking", "refusal", "prompt",
        "tool", "file", "base", "default", "gate", "latest", "none", "null", "internal",
        "system", "admin", "other",
    }
)  # fmt: skip


def parse_tenant_id(text: str) -> TenantId:
    """Check a tenant's id.

    Raises:
        InvalidName: not 1 to 63 of `a-z 0-9 . _ -`, or not starting and ending alphanumeric.
        ReservedName: a word that the engine or the API gives a meaning of its own.
    """
    return TenantId(_parse_name(text, kind="tenant"))


def parse_adapter_name(text: str) -> AdapterName:
    """Check an adapter's name; the same rules and errors as `parse_tenant_id`."""
    return AdapterName(_parse_name(text, kind="adapter"))


def parse_digest(text: str) -> Digest:
    """Check a digest's form.

    Raises:
        InvalidName: not `sha256:` followed by 64 lower-case hex digits.
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidName(kind="digest", value=text[:80])
    return Digest(text)


def _parse_name(text: str, *, kind: str) -> str:
    if not _NAME.fullmatch(text) or ".." in text:
        raise InvalidName(kind=kind, value=text[:80])
    if text in RESERVED_NAMES:
        raise ReservedName(kind=kind, value=text)
    return text


@dataclass(frozen=True, slots=True, order=True)
class VersionId:
    """One immutable version of one adapter; written `acme/support@3`.

    The written form is the engine's adapter name, the `model` of a response and the metric label.
    """

    tenant: TenantId
    adapter: AdapterName
    number: int

    def __str__(self) -> str:
        return f"{self.tenant}/{self.adapter}@{self.number}"


def parse_version_id(text: str) -> VersionId:
    """Parse `acme/support@3`; the inverse of `str(VersionId)`.

    Raises:
        InvalidName: another form.
        ReservedName: a reserved tenant or adapter.
    """
    tenant, slash, rest = text.partition("/")
    adapter, at, number = rest.partition("@")
    if not slash or not at or not _VERSION.fullmatch(number):
        raise InvalidName(kind="version", value=text[:80])
    return VersionId(parse_tenant_id(tenant), parse_adapter_name(adapter), int(number))


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a client may write in `model`: `support`, `acme/support`, `support@3` and both."""

    tenant: TenantId | None
    adapter: AdapterName
    number: int | None


def parse_model_name(text: str) -> ModelName:
    """Parse the `model` of a request.

    Raises:
        InvalidName: another form.
        ReservedName: a reserved tenant or adapter.
    """
    head, slash, tail = text.partition("/")
    tenant = parse_tenant_id(head) if slash else None
    name, at, number = (tail if slash else head).partition("@")
    if at and not _VERSION.fullmatch(number):
        raise InvalidName(kind="model", value=text[:80])
    return ModelName(tenant, parse_adapter_name(name), int(number) if at else None)
