"""Verbs that run something here: up, controller, engine, check. All heavy imports are late."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli import views
from serving.cli.errors import Refused, UsageError_
from serving.cli.options import AsJson, option

ModelOption = Annotated[
    str | None, option("--model", help="Base model: a folder or a hub id.", show_default=False)
]
DataDirOption = Annotated[
    Path, option("--data-dir", help="Folder of registry, artifacts, secrets and logs.")
]
GpuSlots = Annotated[int | None, option("--gpu-slots", help="Adapters active at once.")]
CpuSlots = Annotated[int | None, option("--cpu-slots", help="Adapters kept in CPU memory.")]
MaxRank = Annotated[int | None, option("--max-rank", help="Largest LoRA rank.")]
MaxModelLen = Annotated[int | None, option("--max-model-len", help="Longest prompt + answer.")]
Dtype = Annotated[str | None, option("--dtype", help="auto, float32, bfloat16 or float16.")]
ProfileOption = Annotated[Path | None, option("--profile", help="Engine profile (YAML).")]

_PROFILE_OPTIONS = (
    "model", "gpu_slots", "cpu_slots", "max_rank", "max_model_len", "dtype", "profile",
)  # fmt: skip


def up(
    model: ModelOption = None,
    data_dir: DataDirOption = Path("loraplane-data"),
    controller_port: Annotated[int, option("--controller-port", help="Its port.")] = 8400,
    engine_port: Annotated[int, option("--engine-port", help="Port of the first engine.")] = 8500,
    engines: Annotated[int, option("--engines", help="How many engines.", min=1)] = 1,
    gpu_slots: GpuSlots = None,
    cpu_slots: CpuSlots = None,
    max_rank: MaxRank = None,
    max_model_len: MaxModelLen = None,
    dtype: Dtype = None,
    profile: ProfileOption = None,
    restart_seconds: Annotated[
        float,
        option("--restart-seconds", help="Longest pause before a dead child is restarted.", min=0),
    ] = 30.0,
) -> None:
    """Run a controller and engines here until Ctrl-C; the embedded form of the whole product."""
    from serving.cli.all_in_one import UpPlan, run_all
    from serving.controller.judges_file import load_judges
    from serving.engine.profile import ProfileInvalid, read_profile
    from serving.settings import ControllerSettings, EngineSettings

    given: dict[str, Any] = {
        "model": model, "gpu_slots": gpu_slots, "cpu_slots": cpu_slots, "max_rank": max_rank,
        "max_model_len": max_model_len, "dtype": dtype, "profile": profile,
    }  # fmt: skip
    try:
        # Here and not in a child that would be started again and again; so the judges below.
        shape = read_profile(EngineSettings.from_environment(**given))
    except ProfileInvalid as exc:
        raise UsageError_(str(exc), fix="Options: --help. All fields: docs/settings.md.") from exc
    settings = ControllerSettings.from_environment(
        data_dir=data_dir, controller_port=controller_port, model=shape.model,
        max_rank=shape.max_rank, dtype=shape.dtype,
    )  # fmt: skip
    load_judges(settings.judges)
    plan = UpPlan(
        controller=settings,
        n_engines=engines,
        engine_port=engine_port,
        engine_environment=_as_environment(given),
        restart_seconds=restart_seconds,
    )
    run_all(plan)


def controller() -> None:
    """Run one controller; its settings are environment variables, see docs/settings.md."""
    import sys

    from serving.settings import KubernetesSettings

    is_in_cluster = KubernetesSettings.from_environment().kubernetes
    module = "serving.kube" if is_in_cluster else "serving.controller"
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606


def engine(
    model: ModelOption = None,
    gpu_slots: GpuSlots = None,
    cpu_slots: CpuSlots = None,
    max_rank: MaxRank = None,
    max_model_len: MaxModelLen = None,
    dtype: Dtype = None,
    profile: ProfileOption = None,
) -> None:
    """Run one engine: vLLM's OpenAI server with our plugin, from an engine profile."""
    from serving.engine.credentials import SecretMissing
    from serving.engine.launch import run_engine
    from serving.engine.profile import ProfileInvalid

    given: dict[str, Any] = {
        "model": model, "gpu_slots": gpu_slots, "cpu_slots": cpu_slots, "max_rank": max_rank,
        "max_model_len": max_model_len, "dtype": dtype,
    }  # fmt: skip
    try:
        run_engine(profile, {key: value for key, value in given.items() if value is not None})
    except (ProfileInvalid, SecretMissing) as exc:
        raise UsageError_(str(exc)) from exc


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Adapter folder.")],
    base: Annotated[Path | None, option("--base", help="Folder of the base model.")] = None,
    max_rank: Annotated[int, option("--max-rank", help="Largest rank that engines hold.")] = 16,
    dtype: Annotated[str, option("--dtype", help="Number type that engines compute in.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Check an adapter folder offline, as an upload would be; exit code 1 when it is refused."""
    from adapters.base_model import read_base_model
    from adapters.errors import AdapterError
    from adapters.limits import EngineLimits
    from adapters.preflight import check_folder

    model = base or os.environ.get("LORAPLANE_MODEL")
    if model is None:
        raise UsageError_("Which base model is it for?", fix="Give --base FOLDER.")
    try:
        card = read_base_model(Path(model))
        limits = EngineLimits(max_rank=max_rank, dtype=card.dtype if dtype == "auto" else dtype)
        report = check_folder(folder, card, limits)
    except (AdapterError, OSError) as exc:
        raise UsageError_(str(exc)) from exc
    shown = report.to_json()
    if as_json:
        views.print_json(shown)
    else:
        views.print_findings(shown["findings"])
        verdict = "refused" if report.is_blocked else "no blocking finding"
        views.out.print(f"{folder}: {verdict}", markup=False)
    if report.is_blocked:
        raise Refused(f"{folder} would be refused at upload.")


def _as_environment(given: dict[str, Any]) -> dict[str, str]:
    return {
        f"LORAPLANE_{name.upper()}": str(given[name])
        for name in _PROFILE_OPTIONS
        if given.get(name) is not None
    }
