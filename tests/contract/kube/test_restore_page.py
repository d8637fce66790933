"""docs/operations.md on restoring a SQLite registry: nothing runs on it, and its pod can do it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.builders.envoy import until
from tests.builders.helm_release import Release
from tests.builders.operations_page import Command, commands, section

COPY = "registry-restore"


def restoring() -> list[Command]:
    """The commands from the copy of the pod to its end."""
    found = commands("kubectl")
    (first,) = [i for i, one in enumerate(found) if f"--copy-to={COPY}" in one.text]
    (last,) = [i for i, one in enumerate(found) if f"delete pod {COPY}" in one.text]
    return found[first : last + 1]


async def test_the_copy_of_the_controllers_pod_mounts_its_claim_and_runs_no_controller(
    release: Release,
) -> None:
    release.install()
    selector = ("-l", "app.kubernetes.io/component=controller", "-o", "name")

    async def n_pods() -> int:
        return len(release.kubectl("get", "pods", *selector).split())

    await until(n_pods, 1, seconds=60)
    name = release.kubectl("get", "pods", *selector).strip().removeprefix("pod/")
    of_controller = release.find("pod", name)["spec"]

    # The names of here for those of the page; what `Release` adds at the end, sleep gets, unused.
    here = {"loraplane": release.namespace, "$CONTROLLER": name}
    release.kubectl(*(here.get(word, word) for word in restoring()[0].words[1:]))

    made = release.find("pod", COPY)
    (container,) = made["spec"]["containers"]
    assert container["command"][0] == "sleep"
    assert not container.get("args")
    assert "livenessProbe" not in container
    assert container["image"] == of_controller["containers"][0]["image"]
    assert {"name": "data", "mountPath": "/var/lib/loraplane"} in container["volumeMounts"]
    (data,) = [one for one in made["spec"]["volumes"] if one["name"] == "data"]
    assert data["persistentVolumeClaim"]["claimName"] == "loraplane-controller-data"
    # No Service sends anything to it, and the level `restricted` takes it.
    assert "app.kubernetes.io/component" not in made["metadata"].get("labels", {})
    security = container["securityContext"]
    assert (security["allowPrivilegeEscalation"], security["runAsNonRoot"]) == (False, True)
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_registry_is_written_while_no_controller_runs() -> None:
    verbs = [one.words[3] for one in restoring()]

    assert verbs[:3] == ["debug", "scale", "wait"]
    assert "--replicas=0" in restoring()[1].words
    assert set(verbs[3:-1]) == {"exec"}
    # In one place; the other page says the same.
    assert "rollout restart" not in section("Backup and restore")


def test_what_is_run_there_puts_the_backup_in_the_place_of_the_registry(tmp_path: Path) -> None:
    for name, tenant in (("registry.backup", "acme"), ("registry.sqlite", "newer")):
        with sqlite3.connect(tmp_path / name) as made:
            made.execute("CREATE TABLE tenants (id TEXT)")
            made.execute("INSERT INTO tenants VALUES (?)", (tenant,))
        made.close()
    (code,) = [one.words[-1] for one in restoring() if "python3" in one.words]

    here = re.sub(r"/tmp|/var/lib/loraplane", lambda _: str(tmp_path), code)
    subprocess.run([sys.executable, "-c", here], check=True)

    with sqlite3.connect(tmp_path / "registry.sqlite") as restored:
        assert json.dumps(restored.execute("SELECT id FROM tenants").fetchall()) == '[["acme"]]'
    restored.close()
