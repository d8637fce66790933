"""All settings; the only reader of the environment.

Each field is read from `LORAPLANE_<FIELD>`; a command line flag wins. docs/settings.md is generated
from this file (`python -m serving.cli.settings_doc`), which a test checks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping


NONE = "none"
"""How the environment says None to a setting whose default is something else."""


class SettingInvalid(ValueError):
    """An environment variable that cannot be read as its type."""

    def __init__(self, *, name: str, value: str, wanted: str) -> None:
        self.name, self.value, self.wanted = name, value, wanted
        super().__init__(f"{name}={value!r} is not {wanted}")


def _setting(default: Any, doc: str, *, is_secret: bool = False) -> Any:
    return field(default=default, metadata={"doc": doc}, repr=not is_secret)


@dataclass(frozen=True, kw_only=True)
class _FromEnvironment:
    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read `LORAPLANE_*`; overrides that are not None win.

        Raises:
            SettingInvalid: a value cannot be read as its field's type.
        """
        environ = os.environ if environ is None else environ
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for item in dataclasses.fields(cls):
            name = f"LORAPLANE_{item.name.upper()}"
            if name in environ and environ[name] != "":
                values[item.name] = _read(name, environ[name], hints[item.name])
        values.update({key: value for key, value in overrides.items() if value is not None})
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The inverse of `from_environment`, for child processes; None is left out, or `none`."""
        result = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is not None:
                value = NONE  # Left out, it would be read as the default.
            if value is not None:
                text = ("true" if value else "false") if isinstance(value, bool) else str(value)
                result[f"LORAPLANE_{item.name.upper()}"] = text
        return result


def _read(name: str, text: str, wanted: Any) -> Any:
    kind = str(wanted)
    if text == NONE and "None" in kind:
        return None
    try:
        if wanted is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.lower()
            ]
        if "Path" in kind:
            return Path(text)
        if wanted is int or "int" in kind:
            return int(text)
        if wanted is float or "float" in kind:
            return float(text)
    except (KeyError, ValueError) as exc:
        raise SettingInvalid(name=name, value=text, wanted=kind) from exc
    return text


@dataclass(frozen=True, kw_only=True)
class ControllerSettings(_FromEnvironment):
    """Settings of `loraplane controller`."""

    data_dir: Path = _setting(
        Path("loraplane-data"),
        "Folder of the registry file, the artifacts, uploads in progress and secrets.",
    )
    host: str = _setting("127.0.0.1", "Address that the controller listens on.")
    controller_port: int = _setting(8400, "Port that the controller listens on.")
    database_url: str | None = _setting(
        None,
        "Registry: `sqlite+aiosqlite:///FILE` (default: in the data folder) or `postgresql+asyncpg://...`.",
    )
    store_url: str | None = _setting(
        None,
        "Artifact store: `file:///FOLDER` (default: in the data folder) or `s3://BUCKET/PREFIX`.",
    )
    admin_token: str | None = _setting(
        None,
        "Administrator's token. Made at first start and kept in DATA_DIR/admin-token (mode 0600) when unset.",
        is_secret=True,
    )
    cluster_secret: str | None = _setting(
        None,
        "Secret shared with the engines; keys' hashes, the engines' token and the gate's key derive from it. Made at first start and kept in DATA_DIR/cluster-secret (mode 0600) when unset.",
        is_secret=True,
    )
    model: str | None = _setting(
        None,
        "Folder (or hub id) of the base model that the fleet serves; the gate's standalone side loads it.",
    )
    fleet: str = _setting("base", "Name of the served base model in API and metrics.")
    dtype: str = _setting(
        "auto",
        "Number type of base and adapters, the same on engine and reference: auto, float32, bfloat16, float16.",
    )
    max_rank: int = _setting(16, "Largest LoRA rank that the engines' slots are made for.")
    max_upload_bytes: int = _setting(
        2 * 1024**3, "Largest upload, in bytes, counted while it streams."
    )
    max_concurrent_uploads: int = _setting(
        8, "Uploads taken at once; more get 503 with Retry-After."
    )
    max_training_bytes: int = _setting(
        1024**3,
        "Largest training set that a suite is compared with, in bytes, counted while it streams.",
    )
    contamination_jaccard: float = _setting(
        0.7,
        "Jaccard similarity from which on a suite's case counts as a near-duplicate of a training document.",
    )
    contamination_shingle: int = _setting(5, "Characters of a shingle in that comparison.")
    contamination_num_perm: int = _setting(
        256,
        "Values of a MinHash signature in that comparison; more find near-duplicates more surely.",
    )
    contamination_max_fraction: float = _setting(
        0.005, "A suite of whose cases more than this fraction leaked into training is refused."
    )
    contamination_timeout_seconds: float = _setting(
        600.0, "How long one comparison with a training set may take, in seconds."
    )
    upgrade: str = _setting(
        "probe",
        "What an engine of a new build, base or number type needs before tenants reach it: `probe`, its versions' load probes; `gate`, a PASS of every live version, measured on it.",
    )
    rollback_window_seconds: float = _setting(
        86_400.0, "How long a superseded version stays loaded for a rollback, in seconds."
    )
    engine_timeout_seconds: float = _setting(
        15.0,
        "An engine that has not reported for so long is unreachable (which is not absent), in seconds.",
    )
    stage_timeout_seconds: float = _setting(
        300.0,
        "How long every ready engine may take to prove a staged version before the switch is held and says why, in seconds.",
    )
    gate_timeout_seconds: float = _setting(1800.0, "How long one evaluation may take, in seconds.")
    gate_concurrency: int = _setting(4, "Requests that the gate keeps in flight on an engine.")
    gate_repeats: int = _setting(
        3, "How often the candidate answers the suite, in different batch compositions."
    )
    gate_min_cases: int = _setting(8, "Fewer cases than this are INCONCLUSIVE.")
    gate_noise_factor: float = _setting(
        3.0,
        "Numeric disagreement beyond this multiple of the noise floor fails, where divergences are real.",
    )
    gate_effect_factor: float = _setting(
        10.0, "An adapter whose effect is under this multiple of the noise floor is INCONCLUSIVE."
    )
    require_export_evidence: bool = _setting(
        False, "Without a training fingerprint or gold answers the verdict is INCONCLUSIVE."
    )
    judges: Path | None = _setting(
        None,
        "File with a list of at least three judges (docs/judges.md), for policies with `use_judges`.",
    )
    reference_idle_seconds: float = _setting(
        120.0,
        "The standalone reference process ends, and frees its memory, after so long without work, in seconds.",
    )
    reference_device: str = _setting(
        "auto",
        "Where the standalone reference computes: cpu, cuda, or auto (a GPU where the controller sees one).",
    )
    reference_token: str | None = _setting(
        None,
        "What controller and a reference in a Job of its own prove to each other; derived from the cluster secret when unset.",
        is_secret=True,
    )
    reference_wait_seconds: float = _setting(
        900.0,
        "How long an evaluation waits for a node, an image and a ready pod of the reference's Job, in seconds.",
    )
    capacity_poll_seconds: float = _setting(
        5.0, "Pause between two looks at the engines' access traces, in seconds."
    )
    capacity_history_seconds: float = _setting(
        86_400.0, "How long samples of the engines' counts are kept for history, in seconds."
    )
    residency_mode: str = _setting(
        "auto",
        "Whether hot adapters are kept in their slots on purpose: auto or off. Holds until `loraplane capacity residency` says otherwise.",
    )
    source_folders: str = _setting(
        "",
        "Folders, separated by `:`, below which the source of a LoraAdapter may be a `file:///` URI. Empty: none.",
    )
    source_poll_seconds: float = _setting(
        300.0,
        "How often the source of a LoraAdapter is asked whether it has changed, in seconds.",
    )
    lora_adapter_selector: str = _setting(
        "",
        "Label selector of the LoraAdapters that this fleet follows. Empty: all of its namespace; two fleets in one namespace need one each.",
    )
    deployment_key: str | None = _setting(
        None,
        "Bearer key for the standalone deployments that policies with runner: openai name.",
        is_secret=True,
    )
    merged_command: str | None = _setting(
        None,
        "Command that serves merged weights, for policies with runner: merged; {model}, {port} and {name} are filled in.",
    )
    log_level: str = _setting("info", "debug, info, warning or error.")

    @property
    def is_gated(self) -> bool:
        """Whether engines of a new kind wait for the gate."""
        return self.upgrade == "gate"

    @property
    def folders_of_sources(self) -> tuple[Path, ...]:
        """The folders of `source_folders`."""
        return tuple(Path(text) for text in self.source_folders.split(":") if text)


@dataclass(frozen=True, kw_only=True)
class KubernetesSettings(_FromEnvironment):
    """Settings of `loraplane controller` in a Kubernetes cluster, beside `ControllerSettings`."""

    kubernetes: bool = _setting(
        False,
        "Whether this controller is one of several in a cluster, which choose a leader by a Lease and follow LoraAdapters.",
    )
    namespace: str | None = _setting(
        None, "Namespace of all that it reads and writes (default: the pod's own)."
    )
    pod_name: str | None = _setting(
        None, "Name of this pod, for the Lease and Events (default: the host's name)."
    )
    lease_name: str = _setting("loraplane-controller", "Name of the Lease; one for each fleet.")
    kubeconfig: Path | None = _setting(
        None, "Way to the API server from outside of a pod (default: the pod's service account)."
    )
    engine_statefulset: str | None = _setting(None, "Name of the engines' StatefulSet.")
    engine_selector: str | None = _setting(
        None, "Label selector of the engines' pods; unset: pods are not watched."
    )
    lora_adapters: bool = _setting(True, "Whether LoraAdapters of the namespace are followed.")
    reference_runner: str = _setting(
        "process",
        "Where the gate's standalone side runs: `process` (beside the controller) or `job` (a Job of its own).",
    )
    reference_job: Path | None = _setting(None, "File with that Job's template.")


@dataclass(frozen=True, kw_only=True)
class EngineSettings(_FromEnvironment):
    """Settings of `loraplane engine` that are not in the engine profile."""

    engine_dir: Path = _setting(
        Path("loraplane-engine"), "Folder of this engine's local artifacts and last snapshot."
    )
    engine_id: str = _setting("engine-0", "Stable name of this engine.")
    controller_url: str | None = _setting(
        "http://127.0.0.1:8400",
        "Where the controller is. `none`: there is none, and the engine serves its last snapshot.",
    )
    cluster_secret: str | None = _setting(None, "The controller's cluster secret.", is_secret=True)
    host: str = _setting("127.0.0.1", "Address that the engine listens on.")
    engine_port: int = _setting(8500, "Port that the engine listens on.")
    advertise_url: str | None = _setting(
        None, "URL under which the controller reaches this engine (default: host and port)."
    )
    fleet: str = _setting("base", "Name of the served base model.")
    model: str | None = _setting(
        None, "Folder (or hub id) of the base model; wins over the profile."
    )
    profile: Path | None = _setting(
        None, "Engine profile: a YAML file with the knobs of `serving.engine.profile`."
    )
    gpu_slots: int | None = _setting(None, "Adapters in one batch; wins over the profile.")
    cpu_slots: int | None = _setting(None, "Adapters in CPU memory; wins over the profile.")
    max_rank: int | None = _setting(
        None, "Largest LoRA rank that the slots are made for; wins over the profile."
    )
    max_model_len: int | None = _setting(
        None, "Longest sequence, in tokens; wins over the profile."
    )
    dtype: str | None = _setting(
        None,
        "Number type of the base model: auto, float32, bfloat16, float16; wins over the profile.",
    )
    metrics_token: str | None = _setting(
        None,
        "Bearer token that /metrics asks for; unset: anybody who reaches the port may read it.",
    )
    poll_seconds: float = _setting(
        20.0, "How long one long-poll for a snapshot may stay open, in seconds."
    )
    report_seconds: float = _setting(2.0, "Longest pause between two reports, in seconds.")
    load_wait_seconds: float = _setting(
        30.0,
        "How long a request waits for its adapter to be brought into memory before it gets 503, in seconds.",
    )
    engine_build_label: str = _setting(
        "",
        "Part of this engine's build, such as the tag or digest of its image: engines of another label are another build, which the gate measures anew.",
    )
    leave_seconds: float = _setting(
        15.0,
        "How long an engine that was told to drain still lets new requests in, in seconds: time for load balancers to notice that it is not ready.",
    )
    drain_timeout_seconds: float = _setting(
        120.0,
        "How long `loraplane drain` waits after that for requests in flight, in seconds.",
    )
    probe_interval_seconds: float = _setting(
        600.0,
        "About how often each proven version in memory is asked its load probe again, in seconds, one at a time; also soon after its bytes were read from disk again. 0: at its first load alone.",
    )
    trace_events: int = _setting(
        1_000_000,
        "Events that the engine's access trace holds, two per request, 40 bytes of disk each; older ones are overwritten. 0: no trace, and no capacity advice.",
    )
    metrics_max_adapters: int = _setting(
        500,
        "Adapters with series of their own on the engine's /metrics; what is beyond is counted as `other`.",
    )
    without_hooks: str = _setting(
        "",
        "Comma-separated hooks to leave out (`cpu_kernels`, `kv_zeroing`, `caches`), to measure what "
        "they do; the engine then says so in its reports. Never in production.",
    )
    allow_untested_vllm: bool = _setting(
        False, "Start although the vLLM version is outside the tested range."
    )
    log_level: str = _setting("info", "debug, info, warning or error.")

    @property
    def facts_path(self) -> Path:
        """Where the worker publishes its counts for the API process."""
        return self.engine_dir / "run" / "worker-facts.json"


def secret_from_environment(name: str) -> str | None:
    """A secret in the variable that a configuration file names; None where it is unset or empty."""
    return os.environ.get(name) or None


def ensure_secret(path: Path, given: str | None) -> str:
    """The given secret, or the one in `path`, made at first use (256 bits, mode 0600)."""
    if given:
        return given
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _publish_secret(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def _publish_secret(path: Path, secret: str) -> None:
    # Whole or not at all, also after a crash; `link` lets the first of two processes win.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
