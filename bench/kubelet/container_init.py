"""Process 1 of a container, before it becomes the container's command.

Run as `python -I container_init.py PLAN.json` in new mount, process, host name and IPC namespaces;
PLAN.json is a `ContainerPlan` of bench/kubelet/container.py. Uses the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_LAST_CAPABILITY = 40
_MOST_LINKS = 40
"""As Linux has it."""
_SHM_BYTES = 64 * 1024**2
"""What container runtimes give /dev/shm where a pod mounts nothing there."""


def main(plan_file: str) -> None:
    """Make the container's file system, become its user, and become its command."""
    plan = json.loads(Path(plan_file).read_text())
    socket.sethostname(plan["hostname"])
    root = _make_root(Path(plan["scratch"]), plan)
    os.chroot(root)
    os.chdir(plan["working_folder"])
    _drop_rights(plan)
    os.execvpe(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606


def _make_root(scratch: Path, plan: dict[str, Any]) -> Path:
    """An overlay of this machine's root with the volumes mounted into it."""
    scratch.mkdir(parents=True, exist_ok=True)
    # On memory: an overlay cannot keep its changes on another overlay, as in a build container.
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", scratch)
    upper, work, root = (scratch / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "-o", options, "overlay", root)
    for program in plan["readable"]:
        _let_everybody_reach(root, Path(program))
    _mount("-t", "proc", "proc", root / "proc")
    _mount("--rbind", "/sys", root / "sys")
    _make_devices(root / "dev")
    mounts = sorted(plan["mounts"], key=lambda mount: len(Path(mount["path"]).parts))
    for mount in mounts:
        _mount_volume(root, mount)
    if plan["is_read_only"]:
        _mount("-o", "remount,ro", root)
    return root


def _let_everybody_reach(root: Path, program: Path) -> None:
    """An image's files can be read by its user; here a folder above them may be root's alone."""
    for folder in program.parents:
        inside = root / folder.relative_to("/")
        mode = inside.stat().st_mode & 0o7777
        if mode & 0o111 != 0o111:
            inside.chmod(mode | 0o111)


def _make_devices(folder: Path) -> None:
    _mount("--rbind", "/dev", folder)
    _mount("-t", "tmpfs", "-o", f"mode=1777,size={_SHM_BYTES}", "tmpfs", folder / "shm")


def _mount_volume(root: Path, mount: dict[str, Any]) -> None:
    source, target = Path(mount["source"]), _inside(root, Path(mount["path"]))
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount("--bind", source, target)
    if mount["is_read_only"]:
        _mount("-o", "remount,bind,ro", target)


def _inside(root: Path, path: Path) -> Path:
    """Where a path of the container is, its links followed as the container would follow them."""
    found, parts, n_links = root, list(path.parts[1:]), 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            found = found if found == root else found.parent
        elif not (found / part).is_symlink():
            found = found / part
        else:
            n_links += 1
            if n_links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = (found / part).readlink()
            found = root if target.is_absolute() else found
            parts = [*(each for each in target.parts if each != "/"), *parts]
    return found


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def _drop_rights(plan: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if plan["drops_all_capabilities"]:
        for capability in range(_LAST_CAPABILITY + 1):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if plan["has_no_new_rights"] and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    os.setgroups(plan["groups"])
    os.setresgid(*[plan["gid"]] * 3)
    os.setresuid(*[plan["uid"]] * 3)
    # `unshare` asked for this too, but a change of user takes it away.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1])
