"""Wire types between controller and engine, versioned. The only thing that both know.

The controller compiles a `FleetSnapshot` from its rows; each engine's agent pulls it, converges and
answers with `EngineReport`s. Both are JSON (msgspec), both name their format. An unknown newer
format is refused, never guessed at.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from typing import TypeVar

import msgspec

FORMAT = 1
"""Bumped when an old reader could misread a new message; new optional fields don't bump it."""


class Role(StrEnum):
    """Who may reach a version on an engine."""

    CANDIDATE = "candidate"
    """Under evaluation: reachable with the gate's key alone."""
    SERVING = "serving"
    """Staged, live or superseded: reachable by its tenant, by pin or through the alias."""


class ArtifactFile(msgspec.Struct, frozen=True):
    """One file of an artifact; `sha256` is bare hex, `size_bytes` exact."""

    name: str
    sha256: str
    size_bytes: int


class ProbeCase(msgspec.Struct, frozen=True):
    """One prompt of a load probe and the greedy answer that the gate recorded on an engine."""

    prompt_token_ids: list[int]
    expected_token_ids: list[int]
    expected_logprobs: list[float]


class Probe(msgspec.Struct, frozen=True):
    """What a loaded version must answer before an engine calls it proven.

    A case passes when the greedy tokens are equal up to a near-tie (the engine's own margin between
    the two tokens is at most `tie_margin_nats`) and the mean |delta logprob| over the tokens before
    it is at most `max_mean_delta_nats`. No cases: only finiteness is checked.
    """

    cases: list[ProbeCase]
    max_mean_delta_nats: float
    tie_margin_nats: float


class VersionEntry(msgspec.Struct, frozen=True):
    """One version that engines shall hold ready."""

    name: str
    """`acme/support@3`; the engine's adapter name."""
    tenant: str
    adapter: str
    number: int
    digest: str
    files: list[ArtifactFile]
    rank: int
    role: Role
    probe: Probe | None = None
    attempt: int = 0
    """Counts re-evaluations; a higher number asks the engine to forget an earlier failure."""


class AliasEntry(msgspec.Struct, frozen=True):
    """`model: adapter` with this tenant's key is answered by version `number`."""

    tenant: str
    adapter: str
    number: int


class KeyGrant(msgspec.Struct, frozen=True):
    """What one API key may do on an engine. `key_hash`: see `hash_key`."""

    key_id: str
    key_hash: str
    tenant: str
    """Empty for the gate's own key."""
    scopes: list[str]
    """`inference`, `base` (may also use the base model), `gate`."""
    expires_at: float | None = None
    """Unix seconds."""
    fallback: str = "none"
    """`base`: where this tenant's adapter cannot be served, the base model answers and says so."""


class TenantEntry(msgspec.Struct, frozen=True):
    """Limits of one tenant on one engine; None: unlimited."""

    tenant: str
    max_in_flight: int | None = None


class FleetSnapshot(msgspec.Struct, frozen=True):
    """The whole desired state, compiled from rows. A higher revision replaces a lower one."""

    revision: int
    fleet: str
    """Served base model's name; an engine refuses a snapshot of another fleet."""
    store_url: str
    """Where artifacts are, `file:///...` or `s3://bucket/prefix`; credentials are the engine's."""
    versions: list[VersionEntry] = []
    aliases: list[AliasEntry] = []
    keys: list[KeyGrant] = []
    tenants: list[TenantEntry] = []
    format: int = FORMAT


class VersionState(StrEnum):
    """They complete the sentence "on this engine, version acme/support@3 is ..."."""

    PENDING = "pending"
    FETCHING = "fetching"
    LOADING = "loading"
    PROVEN = "proven"
    """Loaded, strict check and probe passed. A candidate is proven by the strict check alone."""
    FAILED = "failed"
    QUARANTINED = "quarantined"
    """Made non-finite values at run time; taken out until a new attempt is asked for."""


class VersionReport(msgspec.Struct, frozen=True):
    """What one engine observed of one version."""

    name: str
    digest: str
    state: VersionState
    reason: str | None = None
    """Stable slug when failed or quarantined."""
    detail: str | None = None
    in_flight: int = 0
    attempt: int = 0


class AdapterCounts(msgspec.Struct, frozen=True):
    """The engine's own counts for one version since the engine started."""

    name: str
    loads_disk: int = 0
    loads_cache: int = 0
    evictions_slot: int = 0
    evictions_cache: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EngineReport(msgspec.Struct, frozen=True):
    """One engine's observation, sent after every change and every few seconds."""

    engine_id: str
    url: str
    """Where the controller's gate and operators reach this engine's OpenAI API."""
    build: str
    """`vllm 0.32.0+cpu / loraplane 0.1.0`: the key of the noise floor."""
    dtype: str
    revision: int
    """Highest snapshot revision whose aliases this engine follows; -1 before the first."""
    is_ready: bool
    started_at: float
    """Unix seconds; tells two lives of one engine apart."""
    gpu_slots: int
    cpu_slots: int
    max_rank: int
    max_model_len: int
    versions: list[VersionReport] = []
    counts: list[AdapterCounts] = []
    active: list[str] = []
    """Names that hold a GPU slot, least recently used first."""
    cached: list[str] = []
    """Names in CPU memory, least recently used first."""
    hot: dict[str, int] = {}
    """Distinct adapters used within `1m`, `5m`, `1h`."""
    unhooked: dict[str, str] = {}
    """Hooks that could not be installed, and why; empty on a supported engine."""
    format: int = FORMAT


def derive_secret(cluster_secret: str, label: str) -> str:
    """Hex secret for one purpose, derived from the cluster secret (HMAC-SHA256 of the label).

    Labels in use: `engine token`, `key hash`, `gate key`.
    """
    return hmac.new(cluster_secret.encode(), label.encode(), hashlib.sha256).hexdigest()


def hash_key(key: str, *, cluster_secret: str) -> str:
    """Keyed hash of an API key, hex. Keys are 256 random bits, so no slow hash is needed."""
    pepper = derive_secret(cluster_secret, "key hash")
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()


def gate_key(cluster_secret: str) -> str:
    """The gate's own API key, the same after a restart: `lp_gate_...`."""
    return "lp_gate_" + derive_secret(cluster_secret, "gate key")


def engine_token(cluster_secret: str) -> str:
    """Bearer token of engines towards the controller's internal routes."""
    return "lp_engine_" + derive_secret(cluster_secret, "engine token")


def encode(message: FleetSnapshot | EngineReport) -> bytes:
    """JSON bytes."""
    return msgspec.json.encode(message)


def decode_snapshot(data: bytes) -> FleetSnapshot:
    """Parse a snapshot.

    Raises:
        msgspec.ValidationError: not a snapshot, or of a newer format.
    """
    return _checked(msgspec.json.decode(data, type=FleetSnapshot))


def decode_report(data: bytes) -> EngineReport:
    """Parse a report.

    Raises:
        msgspec.ValidationError: not a report, or of a newer format.
    """
    return _checked(msgspec.json.decode(data, type=EngineReport))


_Message = TypeVar("_Message", FleetSnapshot, EngineReport)


def _checked(message: _Message) -> _Message:
    if message.format > FORMAT:
        raise msgspec.ValidationError(f"format {message.format} is newer than {FORMAT}")
    return message
