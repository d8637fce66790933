"""The chart on a real API server where somebody else changes its objects: scalers, people."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any

import pytest

from tests.builders.helm import HelmRefused
from tests.builders.helm_release import Release
from tests.builders.operations_page import commands

Json = dict[str, Any]

KEYS = ("admin-token", "cluster-secret", "metrics-token", "reference-token")
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


def change_secret(release: Release, value: str) -> None:
    """By the page's own command."""
    (command,) = [one for one in commands("kubectl") if "patch secret/" in one.text]
    encoded = base64.b64encode(value.encode()).decode()
    words = command.text.replace("BASE64", encoded)
    release.kubectl(*(word for word in shlex.split(words)[1:] if word not in ("-n", "loraplane")))


def test_a_generated_secret_that_was_changed_outlives_upgrades_and_no_rollback(
    release: Release,
) -> None:
    release.install()
    release.upgrade(engines(2))
    before = release.secret("loraplane-secrets")

    change_secret(release, "n" * 64)
    changed = {**before, "cluster-secret": "n" * 64}
    assert release.secret("loraplane-secrets") == changed

    release.upgrade(engines(3))
    assert release.secret("loraplane-secrets") == changed
    release.rollback(3)
    assert release.secret("loraplane-secrets") == changed

    # As the page warns: to before the change.
    release.rollback(1)
    assert release.secret("loraplane-secrets") == before


def test_a_rollback_right_after_a_secret_was_changed_is_not_refused(release: Release) -> None:
    """Nothing but the page's command has written since: the field is not helm's alone."""
    release.install()
    release.upgrade(engines(2))
    change_secret(release, "n" * 64)

    release.rollback(1)

    assert n_engines(release) == 1


def test_a_secret_of_ones_own_is_changed_by_no_upgrade_and_no_rollback(release: Release) -> None:
    literals = [f"--from-literal={key}={key * 5}" for key in KEYS]
    release.kubectl("create", "secret", "generic", "mine", *literals)
    mine = {"secrets": {"existingSecret": "mine"}}
    release.install(mine)
    release.upgrade({**mine, **engines(2)})

    encoded = base64.b64encode(b"n" * 64).decode()
    body = json.dumps({"data": {"cluster-secret": encoded}})
    release.kubectl("patch", "secret", "mine", "--patch", body)
    release.rollback(1)

    assert n_engines(release) == 1
    assert release.secret("mine")["cluster-secret"] == "n" * 64
