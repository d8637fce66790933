"""docs/operations.md against a real API server: install, upgrade, uninstall, and install again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.api_server import WITHOUT_ASSETS, find_assets, run_api_server
from tests.builders.helm import program
from tests.builders.operations_page import REPOSITORY, Command, commands, section, values_files

pytestmark = pytest.mark.skipif(find_assets() is None, reason=WITHOUT_ASSETS)
# Made by Kubernetes for each namespace, and by the page before the install.
NOT_OURS = {"configmap/kube-root-ca.crt", "serviceaccount/default", "secret/hub-token"}


@dataclass
class Shell:
    """What somebody who follows the page has: a cluster, a checkout, the page's files."""

    folder: Path
    kubeconfig: Path

    def run(self, *words: str) -> str:
        """A command's output; an error shows what it said."""
        done = subprocess.run(
            [str(program(words[0])), *words[1:]], cwd=self.folder, capture_output=True, text=True,
            check=False, timeout=300, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, command: Command) -> str:
        """A command of the page, as it stands there."""
        return self.run(*command.words)

    def present(self) -> set[str]:
        """Everything in the namespace, as kind/name, but events."""
        kinds = self.run("kubectl", "api-resources", "--namespaced", "--verbs=list", "-o", "name")
        wanted = [kind for kind in kinds.split() if not kind.startswith("events")]
        names = self.run("kubectl", "-n", "loraplane", "get", ",".join(wanted), "-o", "name")
        found = {name.replace(".apps/", "/").replace(".batch/", "/") for name in names.split()}
        return found - NOT_OURS

    def settled(self, *wanted: str) -> set[str]:
        """What is present once it is this alone, or after a minute: garbage is still collected."""
        deadline = time.monotonic() + 60
        while (found := self.present()) != set(wanted) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for name, text in values_files().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "helm").symlink_to(REPOSITORY / "helm")
    with run_api_server(controller_manager=True) as server:
        yield Shell(tmp_path, server.kubeconfig())


def the_command(start: str, *, has: str = "") -> Command:
    """The page's first command that begins so."""
    return next(one for one in commands() if one.text.startswith(start) and has in one.text)


def test_an_uninstall_leaves_what_the_page_says_and_an_install_goes_on_from_it(
    shell: Shell,
) -> None:
    install = the_command("helm upgrade --install", has="my-values.yaml")
    read_token = the_command("kubectl -n loraplane get secret loraplane-secrets -o jsonpath")
    shell.follow(the_command("kubectl create namespace"))
    shell.follow(the_command("kubectl -n loraplane create secret generic hub-token"))

    notes = shell.follow(install)
    token = shell.follow(read_token)
    shell.follow(the_command("kubectl apply --server-side"))
    shell.follow(the_command("helm upgrade loraplane", has="my-values.yaml"))
    after_upgrade = shell.follow(read_token)
    shell.follow(the_command("helm uninstall loraplane"))
    expected = {
        "secret/loraplane-secrets",
        "persistentvolumeclaim/loraplane-controller-data",
        "persistentvolumeclaim/loraplane-store",
    }
    left = shell.settled(*expected)

    assert "kubectl -n loraplane port-forward service/loraplane-controller" in notes
    assert len(token) > 40
    assert after_upgrade == token
    assert left == expected
    assert all(f"`{name.split('/')[1]}`" in section("Uninstall") for name in left)

    shell.follow(install)
    assert shell.follow(read_token) == token


def test_the_page_s_commands_remove_what_is_left(shell: Shell) -> None:
    shell.follow(the_command("kubectl create namespace"))
    shell.follow(the_command("kubectl -n loraplane create secret generic hub-token"))
    shell.follow(the_command("helm upgrade --install", has="my-values.yaml"))
    shell.follow(the_command("helm uninstall loraplane"))
    removals = [
        one
        for one in commands("kubectl")
        if " delete " in one.text and one.text in section("Uninstall")
        # Of the bundled PostgreSQL, which this release has not.
        and "postgresql" not in one.text
    ]  # fmt: skip

    for command in removals:
        shell.follow(command)

    assert len(removals) == 4
    assert shell.settled() == set()
    assert "loraplane.dev" not in shell.run("kubectl", "get", "crd", "-o", "name")
