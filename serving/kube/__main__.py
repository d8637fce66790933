"""`python -m serving.kube`: one controller replica in a cluster, configured by the environment."""

from __future__ import annotations

import sys

from serving.controller.__main__ import serve
from serving.kube.surroundings import in_cluster
from serving.settings import ControllerSettings, KubernetesSettings, SettingInvalid


def main() -> None:
    """Read the settings from the environment and serve; 2 for a setting that cannot be used."""
    try:
        settings = ControllerSettings.from_environment()
        surroundings = in_cluster(KubernetesSettings.from_environment())
    except SettingInvalid as exc:
        sys.exit(f"error: {exc}")
    serve(settings, surroundings=surroundings)


if __name__ == "__main__":
    main()
