"""The chart on a real API server where somebody else changes its objects: scalers, people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders.helm import HelmRefused
from tests.builders.helm_release import Release

Json = dict[str, Any]

SCALED: Json = {"autoscaling": {"enabled": True, "minReplicas": 2}}


def engines(n: int) -> Json:
    return {"engine": {"replicas": n, "gpu": {"enabled": False}}}


def n_engines(release: Release) -> int:
    return int(release.find("statefulset", "loraplane-engine")["spec"]["replicas"])


def scale(release: Release, n: int, *, manager: str) -> None:
    """As a scaler does, or `kubectl scale`, in its own name.

    Not through the subresource `scale`: the small API server records nobody there.
    """
    body = json.dumps({"spec": {"replicas": n}})
    who = f"--field-manager={manager}"
    release.kubectl("patch", "statefulset", "loraplane-engine", who, "--patch", body)


def test_engines_stay_when_autoscaling_takes_their_number_over(release: Release) -> None:
    release.install(engines(3))

    release.upgrade(SCALED)
    assert n_engines(release) == 3

    # The scaler has not yet moved: nobody but helm keeps the number.
    release.upgrade({**SCALED, "commonAnnotations": {"team": "ml"}})
    assert n_engines(release) == 3


def test_upgrades_and_rollbacks_leave_the_number_to_the_scaler(release: Release) -> None:
    release.install(SCALED)
    scale(release, 5, manager="kube-controller-manager")

    release.upgrade({**SCALED, "commonAnnotations": {"team": "ml"}})
    release.upgrade({**SCALED, "commonAnnotations": {"team": "serving"}})
    assert n_engines(release) == 5

    release.rollback(1)
    assert n_engines(release) == 5


def test_a_number_set_by_hand_stands_until_the_values_have_another(release: Release) -> None:
    release.install(engines(1))
    scale(release, 4, manager="kubectl")

    release.upgrade(engines(4))
    with pytest.raises(HelmRefused) as refused:
        release.upgrade(engines(2))

    assert ".spec.replicas" in refused.value.message
    assert n_engines(release) == 4
    release.upgrade(engines(2), "--force-conflicts")
    assert n_engines(release) == 2
