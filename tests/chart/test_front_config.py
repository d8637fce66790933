"""The front's objects: a configuration that Envoy takes for every set of values, and the pool's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.kubelet.chart import CHART
from tests.builders.envoy import complaint, envoy_program, front_files
from tests.builders.helm import Json, container_of, object_named, refusal, render

POOL: Json = {
    "mode": "inferencePool",
    "inferencePool": {"endpointPicker": {"name": "picker"}, "gateway": {"name": "public"}},
}
SETS: dict[str, Json] = {
    "as it is": {},
    "by address": {"envoy": {"endpoints": [{"name": "a", "address": "10.0.0.1", "port": 8500}]}},
    "IPv6": {
        "envoy": {
            "bindAddress": "::",
            "endpoints": [{"name": "a", "address": "fd00::1", "port": 8500}],
            "dns": {"servers": [{"address": "fd00::a", "port": 53}]},
        }
    },
    "DNS servers": {"envoy": {"dns": {"servers": [{"address": "10.96.0.10", "port": 53}]}}},
    "TLS": {"tls": {"secretName": "certificate"}},
    "no bound, no retries": {
        "envoy": {"hashing": {"balanceFactor": 0}, "retry": {"attempts": 0, "bufferBytes": 0}}
    },
    "large numbers": {
        "envoy": {
            "maxConnections": 10_000_000,
            "maxEngines": 200,
            "retry": {"bufferBytes": 1_073_741_824, "onReset": True},
            "timeouts": {"streamIdleSeconds": 86_400},
        }
    },
    "slow and careful": {
        "envoy": {
            "healthCheck": {"intervalSeconds": 10, "timeoutSeconds": 5, "unansweredThreshold": 1},
            "outlier": {"maxEjectionPercent": 100, "ejectionSeconds": 60},
            "trustedHops": 2,
        }
    },
}


def front(**values: Any) -> Json:
    return {"front": {"mode": "envoy", **values}}


def config_of(values: Json) -> Json:
    objects = render(values)
    return dict(
        yaml.safe_load(object_named(objects, "ConfigMap", "loraplane-front")["data"]["envoy.yaml"])
    )


def engines_of(config: Json) -> list[Json]:
    (cluster,) = [
        item for item in config["static_resources"]["clusters"] if item["name"] == "engines"
    ]
    return list(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"])


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_envoy_takes_the_configuration_without_a_warning(values: Json, tmp_path: Path) -> None:
    assert complaint(front_files(front(**values), tmp_path)) == ""


def test_a_configuration_that_envoy_refuses_is_found(tmp_path: Path) -> None:
    config = front_files(front(), tmp_path)
    config.write_text(config.read_text().replace("lb_policy: MAGLEV", "lb_policy: MAGLAV"))

    assert "MAGLAV" in complaint(config)


def test_the_image_is_of_the_version_that_the_tests_run() -> None:
    said = subprocess.run(
        [envoy_program(), "--version"], capture_output=True, text=True, check=True
    ).stdout

    image = container_of(object_named(render(front()), "Deployment", "loraplane-front"))["image"]

    assert image.partition(":")[2] == f"v{said.partition('version: ')[2].split('/')[1]}"


@pytest.mark.parametrize(
    ("values", "n"),
    [
        ({}, 16),
        ({"engine": {"replicas": 20}}, 20),
        ({"autoscaling": {"enabled": True, "maxReplicas": 40}}, 40),
    ],
)
def test_the_front_looks_for_as_many_engines_as_there_may_be(values: Json, n: int) -> None:
    names = [
        item["endpoint"]["address"]["socket_address"]["address"]
        for item in engines_of(config_of({**front(), **values}))
    ]

    assert len(names) == n
    assert names[1] == "loraplane-engine-1.loraplane-engine.default.svc.cluster.local."


def test_a_fronts_pod_is_replaced_when_its_configuration_changes() -> None:
    def mark(values: Json) -> str:
        template = object_named(render(values), "Deployment", "loraplane-front")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/front"])

    assert mark(front()) == mark(front())
    assert mark(front()) != mark(front(envoy={"maxEngines": 17}))
    assert mark(front()) != mark(front(drain={"leaveSeconds": 11}))


def test_the_pod_lives_long_enough_for_its_hook() -> None:
    values = front(drain={"leaveSeconds": 7, "timeoutSeconds": 900})

    pod = object_named(render(values), "Deployment", "loraplane-front")["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] > 7 + 900


def test_without_a_front_none_is_made() -> None:
    assert [
        body["metadata"]["name"]
        for body in render()
        if body["metadata"]["labels"]["app.kubernetes.io/component"] == "front"
    ] == []


def test_the_pool_picks_the_engines_and_the_route_only_inference() -> None:
    objects = render({"front": POOL})

    pool = object_named(objects, "InferencePool", "loraplane")["spec"]
    route = object_named(objects, "HTTPRoute", "loraplane")["spec"]
    labels = object_named(objects, "StatefulSet", "loraplane-engine")["spec"]["template"]
    assert pool["selector"]["matchLabels"].items() <= labels["metadata"]["labels"].items()
    assert pool["targetPorts"] == [{"number": 8500}]
    assert pool["endpointPickerRef"]["name"] == "picker"
    (rule,) = route["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v1/"}}]
    assert rule["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "loraplane"}
    ]
    assert route["parentRefs"][0]["name"] == "public"


@pytest.mark.parametrize("missing", ["endpointPicker", "gateway"])
def test_a_pool_without_its_picker_or_gateway_is_refused(missing: str) -> None:
    others = {name: part for name, part in POOL["inferencePool"].items() if name != missing}

    message = refusal({"front": {"mode": "inferencePool", "inferencePool": others}})

    assert f"front.inferencePool.{missing}.name" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mode": "nginx"}, "front/mode"),
        ({"envoy": {"hashing": {"balanceFactor": 50}}}, "balanceFactor"),
        ({"envoy": {"port": 80}}, "port"),
        ({"envoy": {"endpoints": [{"name": "a"}]}}, "address"),
        ({"service": {"type": "ExternalName"}}, "service/type"),
        ({"envoy": {"retries": 3}}, "retries"),
    ],
)
def test_a_wrong_value_of_the_front_is_refused_by_its_name(values: Json, said: str) -> None:
    assert said in refusal({"front": values})


def test_the_values_that_the_page_names_exist_and_say_what_it_says() -> None:
    page = (CHART.parents[1] / "docs" / "front.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = set(
        re.findall(r"`((?:front|networkPolicy|engine|autoscaling|monitoring)\.[A-Za-z.]+)", page)
    )

    assert len(named) > 12
    for path in sorted(named):
        here: Any = values
        for part in path.split("."):
            assert part in here, path
            here = here[part]
    envoy = values["front"]["envoy"]
    assert f"({envoy['hashing']['balanceFactor']})" in page
    assert f"({envoy['timeouts']['streamIdleSeconds']})" in page


def test_the_page_gives_the_pattern_that_the_front_uses() -> None:
    page = (CHART.parents[1] / "docs" / "front.md").read_text()
    (pattern,) = re.findall(r"`(\^\(\?:Bearer.*\$)`", page)
    (used,) = set(re.findall(r"regex: '(.*)'", yaml_text()))

    keys = [
        "Bearer lp_aB-9_x.0123456789",
        "lp_aB-9_x.0123456789",
        "Bearer lp_old",
        "Bearer sk-other.x",
    ]
    assert [re.sub(pattern, r"\1", key) for key in keys] == [
        re.sub(used, r"\1", key) for key in keys
    ]
    assert re.sub(pattern, r"\1", keys[0]) == "0123456789"


def yaml_text() -> str:
    return str(object_named(render(front()), "ConfigMap", "loraplane-front")["data"]["envoy.yaml"])
