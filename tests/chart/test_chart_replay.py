"""The replay before an upgrade: what it runs, against which profiles, and what stops it early."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml

from serving.cli.main import app
from serving.engine.profile import parse_profile
from serving.tuning.slo import parse_slos
from tests.builders.helm import (
    HelmRefused,
    Json,
    container_of,
    engine,
    object_named,
    profile_of,
    render,
    volume,
)

GOALS: Json = {"limits": {"short": {"gap_p99": 90}}, "against_current": {"all": {"e2e_p99": 1.1}}}
ON: Json = {"replay": {"enabled": True, "window": {"configMap": "window"}, "goals": GOALS}}


def job(objects: list[Json]) -> Json:
    return object_named(objects, "Job", "loraplane-replay")


def hooks(objects: list[Json]) -> dict[str, tuple[str, int]]:
    """By kind of object: when helm makes it, and its turn."""
    return {
        body["kind"]: (notes["helm.sh/hook"], int(notes["helm.sh/hook-weight"]))
        for body in objects
        if "helm.sh/hook-weight" in (notes := body["metadata"].get("annotations", {}))
    }


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert hooks(render({}, "h100-80g")) == {}


def test_what_it_needs_comes_before_it_and_all_of_it_before_the_upgrade() -> None:
    found = hooks(render(ON, "h100-80g"))

    # Its policy, too: as the release's own it would come after the first replay.
    assert found == {
        "ConfigMap": ("pre-upgrade", -5),
        "NetworkPolicy": ("pre-upgrade", -5),
        "Job": ("pre-upgrade", 0),
    }


def test_without_network_policies_it_has_none() -> None:
    assert hooks(render({**ON, "networkPolicy": {"enabled": False}}, "h100-80g")) == {
        "ConfigMap": ("pre-upgrade", -5),
        "Job": ("pre-upgrade", 0),
    }


@pytest.mark.parametrize("profile", ["h100-80g", "cpu"])
def test_it_replays_the_new_profile_against_the_one_that_serves(profile: str) -> None:
    objects = render(ON, profile)

    replay = job(objects)
    container = container_of(replay)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    new = object_named(objects, "ConfigMap", "loraplane-replay")["data"]
    # Hooks run before the release's own objects change: under this name the old profile is found.
    assert volume(replay, "current")["configMap"] == {"name": "loraplane-engine-profile"}
    assert volume(replay, "candidate")["configMap"] == {"name": "loraplane-replay"}
    assert parse_profile(yaml.safe_load(new["profile.yaml"])) == profile_of(objects)
    assert f"--current={mounts['current']}/profile.yaml" in container["command"]
    assert f"--profile={mounts['candidate']}/profile.yaml" in container["command"]
    assert f"{mounts['window']}/window.jsonl" in container["command"]
    assert container["resources"] == container_of(engine(objects))["resources"]


def test_its_command_and_goals_are_what_the_verb_takes() -> None:
    objects = render(ON, "h100-80g")
    verb = typer.main.get_command(app).commands["replay"]  # type: ignore[attr-defined]
    command = container_of(job(objects))["command"]

    context = verb.make_context("replay", command[command.index("replay") + 1 :])

    goals = object_named(objects, "ConfigMap", "loraplane-replay")["data"]["goals.yaml"]
    assert context.params["work"] == Path("/work")
    assert context.params["slo"] == Path("/etc/loraplane/goals.yaml")
    assert len(parse_slos(yaml.safe_load(goals)).goals) == 2


def test_a_verdict_is_not_tried_again_and_a_failed_job_stays_for_its_log() -> None:
    body = job(render(ON, "h100-80g"))

    assert body["spec"]["backoffLimit"] == 0
    policy = body["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert policy == "before-hook-creation,hook-succeeded"


def test_without_a_comparison_it_starts_the_new_profile_alone() -> None:
    values = {"replay": {**ON["replay"], "compare": False, "goals": {}, "window": {"file": "zipf"}}}

    container = container_of(job(render(values, "h100-80g")))

    assert not [word for word in container["command"] if word.startswith(("--current", "--slo"))]
    assert "zipf" in container["command"]


@pytest.mark.parametrize(
    ("window", "named"),
    [
        ({}, "replay.window.configMap or"),
        ({"configMap": "a", "existingClaim": "b"}, "keep one of them"),
    ],
)
def test_a_window_that_cannot_be_found_is_refused(window: Json, named: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        render({"replay": {"enabled": True, "window": window}})

    assert named in refused.value.message


def test_nobody_reaches_it_and_it_reaches_the_base_model_alone() -> None:
    policy = object_named(render(ON, "h100-80g"), "NetworkPolicy", "loraplane-replay")["spec"]

    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "replay"
    assert policy["ingress"] == []
    assert ports == {53, 443}
