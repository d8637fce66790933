"""One container: its plan, its start in namespaces of its own, commands inside it, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.kubelet.environment import expand
from bench.kubelet.objects import Json, PodBody, PodInvalid
from bench.kubelet.volumes import Mount

_INIT = Path(__file__).with_name("container_init.py")
_POLL_SECONDS = 0.01
_START_SECONDS = 30.0
_BIN = Path(sys.executable).parent
PATH = f"{_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What the image's PATH would be; the interpreter's folder stands for the image's programs."""
_ENTRYPOINTS: dict[str, list[str]] = {"envoy": ["envoy"]}
"""By the last part of an image's name: what runs where a container has `args` alone."""


class ContainerFailed(Exception):
    """A container that did not start; its log's last lines are in the text."""


@dataclass(frozen=True)
class ContainerPlan:
    """All that `container_init.py` needs, as its JSON has it."""

    hostname: str
    scratch: str
    readable: list[str]
    mounts: list[dict[str, Any]]
    command: list[str]
    environment: dict[str, str]
    working_folder: str
    uid: int
    gid: int
    groups: list[int]
    is_read_only: bool
    drops_all_capabilities: bool
    has_no_new_rights: bool


def plan_container(
    pod: PodBody, spec: Json, values: Mapping[str, str], mounts: Sequence[Mount], scratch: Path
) -> ContainerPlan:
    """The plan that a container's specification asks for.

    Raises:
        PodInvalid: it must not run as root and names no user, or has no command.
    """
    shared, own = pod.spec.get("securityContext") or {}, spec.get("securityContext") or {}
    security = {**shared, **own}
    uid = int(security.get("runAsUser", 0))
    if security.get("runAsNonRoot") and uid == 0:
        raise PodInvalid(f"{spec['name']} must not run as root and has no runAsUser")
    groups = [*shared.get("supplementalGroups", ()), *filter(None, [shared.get("fsGroup")])]
    command = spec.get("command") or _entrypoint(spec)
    return ContainerPlan(
        hostname=pod.spec.get("hostname", pod.name),
        scratch=str(scratch),
        readable=[str(Path(sys.executable).resolve()), sys.executable, str(_INIT)],
        mounts=[
            {"source": str(mount.source), "path": mount.path, "is_read_only": mount.is_read_only}
            for mount in mounts
        ],
        command=[expand(word, values) for word in [*command, *(spec.get("args") or ())]],
        environment={"PATH": PATH, "HOSTNAME": pod.name, "HOME": "/", **values},
        working_folder=spec.get("workingDir", "/"),
        uid=uid,
        gid=int(security.get("runAsGroup", 0)),
        groups=[int(group) for group in groups],
        is_read_only=bool(security.get("readOnlyRootFilesystem")),
        drops_all_capabilities="ALL" in (security.get("capabilities") or {}).get("drop", ()),
        has_no_new_rights=security.get("allowPrivilegeEscalation") is False,
    )


def _entrypoint(spec: Json) -> list[str]:
    name = spec["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
    if name not in _ENTRYPOINTS:
        raise PodInvalid(f"{spec['name']} has no command, and {spec['image']} is not run here")
    return _ENTRYPOINTS[name]


class Container:
    """A process in namespaces of its own, as process 1."""

    def __init__(self, plan: ContainerPlan, *, namespace: str, log: Path) -> None:
        self.plan, self._namespace, self.log = plan, namespace, log
        self._process: asyncio.subprocess.Process | None = None
        self._pid: int | None = None

    async def start(self) -> None:
        """Start it and wait until its command runs.

        Raises:
            ContainerFailed: it ended before.
        """
        plan_file = _write_plan(self.plan)
        words = [
            # Nothing outlives a test that is killed.
            *("setpriv", "--pdeathsig", "KILL"),
            *("nsenter", f"--net=/run/netns/{self._namespace}"),
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork"),
            *("--kill-child=KILL", "--uts", "--ipc"),
            *(sys.executable, "-I", str(_INIT), str(plan_file)),
        ]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._pid = await self._wait_for_command()

    async def _wait_for_command(self) -> int:
        assert self._process is not None
        outer = self._process.pid
        deadline = time.monotonic() + _START_SECONDS
        while self._process.returncode is None and time.monotonic() < deadline:
            pid = _command_of(outer)
            if pid is not None:
                return pid
            await asyncio.sleep(_POLL_SECONDS)
        await self.kill()
        raise ContainerFailed(f"{self.plan.command}: {self.tail()}")

    @property
    def pid(self) -> int | None:
        """The command's process, as this machine numbers it; None before it runs."""
        return self._pid

    async def wait(self) -> int:
        """Its exit status, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def run(self, command: Sequence[str], *, seconds: float) -> tuple[int, str]:
        """Run a command inside it as its user, as `kubectl exec` does; status and output.

        Raises:
            TimeoutError: it took longer; it has been killed.
            ContainerFailed: the container's command does not run yet.
        """
        plan = self.plan
        if self._pid is None:
            raise ContainerFailed(f"{plan.command} does not run yet")
        groups = (
            ["--groups", ",".join(map(str, plan.groups))] if plan.groups else ["--clear-groups"]
        )
        words = [
            *("nsenter", "--target", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("--root", "--wd", "--", "setpriv"),
            *("--reuid", str(plan.uid), "--regid", str(plan.gid), *groups),
            *(["--no-new-privs"] if plan.has_no_new_rights else []),
            *(["--bounding-set=-all"] if plan.drops_all_capabilities else []),
            *("--", *command),
        ]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=plan.environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace")

    def terminate(self) -> None:
        """SIGTERM to its command; nothing where that does not run yet."""
        if self._pid is not None and self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    async def kill(self) -> None:
        """End it and all that it started: the process namespace dies with process 1."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # `unshare` ends with its child, which it could not outlive.
                os.kill(self._pid or self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def tail(self, n_bytes: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-n_bytes:] if self.log.exists() else ""


def _write_plan(plan: ContainerPlan) -> Path:
    path = Path(plan.scratch) / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(vars(plan)))
    return path


def _command_of(outer: int) -> int | None:
    """The child of `unshare` once it has become the container's command."""
    with contextlib.suppress(OSError, IndexError):
        pid = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[0] and str(_INIT).encode() not in words:
            return pid
    return None
