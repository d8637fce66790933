"""The chart's template of the reference's Job against the code that makes Jobs of it."""

from __future__ import annotations

import yaml

from adapters.parity.reference_server import TOKEN_VARIABLE, parse_options
from serving.kube.reference_template import ReferenceTemplate
from tests.builders.helm import container_of, environment_of, job_of, plain, render


def rendered():
    return job_of(render({"reference": {"runner": "job"}}, "h100-80g"))


def test_a_job_is_made_of_it_under_the_releases_name():
    template = ReferenceTemplate.parse(yaml.safe_dump(rendered()), token="secret")

    job = template.job(owner=None)

    assert job["metadata"]["name"].startswith("loraplane-reference-")
    assert container_of(job)["readinessProbe"]["tcpSocket"] == {"port": template.port}
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_its_server_listens_where_it_is_asked():
    template = ReferenceTemplate.parse(yaml.safe_dump(rendered()), token="secret")
    container = container_of(rendered())
    environment = environment_of(container)

    options = parse_options([], plain(environment))

    assert options.port == template.port
    assert container["command"][-1] == "adapters.parity.reference_server"
    assert "secretKeyRef" in environment[TOKEN_VARIABLE]
    assert environment["LORAPLANE_STORE_URL"]
    assert "LORAPLANE_CLUSTER_SECRET" not in environment
