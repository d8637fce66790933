"""`loraplane engine`: prepares the folders and becomes vLLM's server, in this very process.

The process keeps its id, so a supervisor's signals reach vLLM, which drains on SIGTERM.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from serving.engine.credentials import SecretMissing
from serving.engine.profile import read_profile
from serving.engine.vllm_flags import MODULE, vllm_arguments, vllm_environment
from serving.settings import EngineSettings


@dataclass(frozen=True)
class Launch:
    """What the process becomes."""

    command: list[str]
    environment: dict[str, str]


def run_engine(profile: Path | None, overrides: Mapping[str, Any]) -> NoReturn:
    """Start the engine that environment, profile file and options describe; never returns.

    Raises:
        ProfileInvalid, SettingInvalid, SecretMissing: nothing was started.
    """
    settings = EngineSettings.from_environment(profile=profile, **overrides)
    launch = prepare_launch(settings, os.environ)
    sys.stdout.flush()
    os.execve(launch.command[0], launch.command, launch.environment)  # noqa: S606


def prepare_launch(settings: EngineSettings, inherited: Mapping[str, str]) -> Launch:
    """Make the run folder anew and work out command and environment.

    Raises:
        ProfileInvalid: the profile cannot be used.
        SecretMissing: there is no cluster secret.
    """
    if not settings.cluster_secret:
        raise SecretMissing
    profile = read_profile(settings)
    # The engine's processes may have another working folder.
    settings = replace(settings, engine_dir=settings.engine_dir.absolute())
    settings.engine_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_folder = settings.facts_path.parent
    shutil.rmtree(run_folder, ignore_errors=True)  # Counts of an earlier life are not ours.
    run_folder.mkdir(parents=True)
    return Launch(
        command=[sys.executable, "-m", MODULE, *vllm_arguments(profile, settings)],
        environment=vllm_environment(profile, settings, inherited),
    )
