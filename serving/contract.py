"""Wire types between controller and engine, versioned. The only thing that both know.

The controller compiles a `FleetSnapshot` from its rows; each engine's agent pulls it, converges and
answers with `EngineReport`s. Both are JSON (msgspec), both name their format. An unknown newer
format is refused, never guessed at.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum, StrEnum
from typing import TypeVar

import msgspec

FORMAT = 1
"""Bumped when an old reader could misread a new message; new optional fields don't bump it."""
ABRIDGED_FORMAT = 2
"""Of a report that leaves versions out (`rest_proven_in`): an old reader would miss them."""


# `gc=False` below: there are tens of thousands of these and none can be part of a cycle, so that
# the garbage collector shall not look at them again and again.
class Role(StrEnum):
    """Who may reach a version on an engine."""

    CANDIDATE = "candidate"
    """Under evaluation: reachable with the gate's key alone."""
    SERVING = "serving"
    """Staged, live or superseded: reachable by its tenant, by pin or through the alias."""


class ArtifactFile(msgspec.Struct, frozen=True, gc=False):
    """One file of an artifact; `sha256` is bare hex, `size_bytes` exact."""

    name: str
    sha256: str
    size_bytes: int


class ProbeCase(msgspec.Struct, frozen=True, gc=False):
    """One prompt of a load probe and the greedy answer that the gate recorded on an engine."""

    prompt_token_ids: list[int]
    expected_token_ids: list[int]
    expected_logprobs: list[float]


class Probe(msgspec.Struct, frozen=True, gc=False):
    """What a loaded version must answer before an engine calls it proven.

    A case passes when the greedy tokens are equal up to a near-tie (the engine's own margin between
    the two tokens is at most `tie_margin_nats`) and the mean |delta logprob| over the tokens before
    it is at most `max_mean_delta_nats`. No cases: only finiteness is checked.
    """

    cases: list[ProbeCase]
    max_mean_delta_nats: float
    tie_margin_nats: float


class EngineKind(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a proof holds for: engines of one kind are taken to compute the same."""

    build: str
    base_revision: str
    """`adapters.base_model.BaseModelCard.revision` of the served base."""
    dtype: str


class KindProbe(msgspec.Struct, frozen=True, gc=False):
    """A load probe, and the kind of engine that it was recorded on."""

    kind: EngineKind
    probe: Probe


class VersionEntry(msgspec.Struct, frozen=True, gc=False):
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
    """The latest; for an engine that finds none of its own kind among `probes`."""
    probes: list[KindProbe] = []
    attempt: int = 0
    """Counts re-evaluations; a higher number asks the engine to forget an earlier failure."""


class AliasEntry(msgspec.Struct, frozen=True, gc=False):
    """`model: adapter` with this tenant's key is answered by version `number`."""

    tenant: str
    adapter: str
    number: int


class KeyGrant(msgspec.Struct, frozen=True, gc=False):
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


class TenantEntry(msgspec.Struct, frozen=True, gc=False):
    """Limits of one tenant on one engine; None: unlimited."""

    tenant: str
    max_in_flight: int | None = None


class EngineWishes(msgspec.Struct, frozen=True):
    """Which adapters one engine shall prefer to keep; wishes, so traffic may still overrule them.

    `hot`: kept in a slot as long as no batch needs the place, hottest first. `companions`: by
    tenant, versions to bring into CPU memory when the first request of a burst arrives.
    """

    engine: str
    hot: list[str] = []
    companions: dict[str, list[str]] = {}


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
    residency: list[EngineWishes] = []
    """At most one per engine; engines that are left out keep nothing on purpose."""
    cleared: list[EngineKind] | None = None
    """Kinds of engines that may answer tenants; None: every kind. The gate reaches all of them."""
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


class VersionReport(msgspec.Struct, frozen=True, gc=False):
    """What one engine observed of one version."""

    name: str
    digest: str
    state: VersionState
    reason: str | None = None
    """Stable slug when failed or quarantined."""
    detail: str | None = None
    in_flight: int = 0
    attempt: int = 0


TTFT_BOUNDS_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of TTFT and end-to-end time: from a small GPU model to a busy CPU one."""
INTER_TOKEN_BOUNDS_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
"""Upper bounds of the mean time between two tokens of one answer; doubling, arbitrary."""


class AdapterCounts(msgspec.Struct, frozen=True, gc=False):
    """The engine's own counts for one version since the engine started.

    Evictions are LRU removals alone; `removals` were asked for, `failures` are loads that failed.
    """

    name: str
    loads_disk: int = 0
    loads_cache: int = 0
    evictions_slot: int = 0
    evictions_cache: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    removals: int = 0
    failures: int = 0
    slot_seconds: float = 0.0
    """Time in a slot, the present stay included."""
    wait_seconds: float = 0.0
    """Sum over its requests of the wait for CPU memory and for a slot."""
    ttft: list[int] = []
    """Requests by time to the first token: one count per `TTFT_BOUNDS_SECONDS`, one beyond."""
    inter_token: list[int] = []
    """Requests by mean inter-token time: as `ttft`, over `INTER_TOKEN_BOUNDS_SECONDS`."""


class LoadTimes(msgspec.Struct, frozen=True):
    """Loads from one source since the engine started, and their duration together."""

    count: int
    total_seconds: float


class EngineMemory(msgspec.Struct, frozen=True):
    """What the engine has really allocated, read from its own tensors.

    Bytes are per rank of a tensor-parallel engine, as each GPU holds them.
    """

    slot_bytes: int
    """All adapters' slots together, divided by their number."""
    kv_bytes_per_token: int
    kv_tokens: int
    """Tokens that the whole KV cache holds."""


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
    hot_90: dict[str, int] = {}
    """Size of the smallest set of adapters with 90 % of the requests in each of those windows."""
    pinned: list[str] = []
    """Of the wished-for hot adapters, those that the worker keeps in a slot at present."""
    load_times: dict[str, LoadTimes] = {}
    """By source: `disk`, `cache`."""
    memory: EngineMemory | None = None
    """None where the engine could not read it."""
    trace_position: int = 0
    """Number of events that this engine's access trace has ever held; see `TraceEvent`."""
    unhooked: dict[str, str] = {}
    """Hooks that could not be installed, and why; empty on a supported engine."""
    stopping: bool = False
    """It is on its way out and will not be ready again in this life."""
    waits_for_gate: bool = False
    """It could serve, but its kind is not cleared: the gate has to measure on it first."""
    base_revision: str = ""
    """Of the base that it serves; `unknown` where it could not be read, empty from old engines."""
    rest_proven_in: str = ""
    """Tag of the followed snapshot, whose versions are proven where `versions` leaves them out."""
    format: int = FORMAT


class TraceKind(IntEnum):
    """What an event of the access trace says."""

    ADMITTED = 0
    """A request was let in; its adapter is in CPU memory from here on."""
    FINISHED = 1
    """That request has ended; the token counts are known."""


class TraceEvent(msgspec.Struct, frozen=True, array_like=True):
    """One event of an engine's access trace, in the order in which it happened. No content.

    Positions count from 0 for the first event that the ring ever held and never repeat, also over
    restarts of the engine.
    """

    position: int
    at: float
    """Unix seconds."""
    kind: TraceKind
    adapter: str
    """`acme/support@3`."""
    request: int
    """Position of the request's ADMITTED event."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_seconds: float | None = None
    is_gate: bool = False
    """A request of the parity gate: it takes a slot like any other, and is nobody's traffic."""


class TracePage(msgspec.Struct, frozen=True):
    """Consecutive events from `first` on. `first` above what was asked for: older ones are gone."""

    engine_id: str
    first: int
    next: int
    """Where to go on; equal to the trace's end when nothing is left."""
    end: int
    events: list[TraceEvent] = []


def derive_secret(cluster_secret: str, label: str) -> str:
    """Hex secret for one purpose, derived from the cluster secret (HMAC-SHA256 of the label).

    Labels in use: `engine token`, `key hash`, `gate key`, `reference token`, `tenant tag ID`.
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


def reference_token(cluster_secret: str) -> str:
    """What a controller and its standalone reference prove to each other that they know."""
    return "lp_reference_" + derive_secret(cluster_secret, "reference token")


def encode(message: FleetSnapshot | EngineReport) -> bytes:
    """JSON bytes."""
    return msgspec.json.encode(message)


def decode_snapshot(data: bytes) -> FleetSnapshot:
    """Parse a snapshot.

    Raises:
        msgspec.ValidationError: not a snapshot, or of a newer format.
    """
    return _checked(msgspec.json.decode(data, type=FleetSnapshot), FORMAT)


def decode_report(data: bytes) -> EngineReport:
    """Parse a report.

    Raises:
        msgspec.ValidationError: not a report, or of a newer format.
    """
    return _checked(msgspec.json.decode(data, type=EngineReport), ABRIDGED_FORMAT)


_Message = TypeVar("_Message", FleetSnapshot, EngineReport)


def _checked(message: _Message, known: int) -> _Message:
    if message.format > known:
        raise msgspec.ValidationError(f"format {message.format} is newer than {known}")
    return message
