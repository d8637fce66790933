"""A pod's volumes as folders of the host, filled before its containers start."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.kubelet.environment import Placement, contents, pod_field
from bench.kubelet.objects import Json, Objects, PodBody, PodInvalid

_FILE_MODE = 0o644
ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3607
"""What the ServiceAccount admission plugin asks for."""

Token = Callable[[str, str | None, int], str]
"""(service account, audience, seconds) -> a token of the API server for it."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host, and where a container sees it."""

    source: Path
    path: str
    is_read_only: bool


@dataclass
class VolumeRoom:
    """Makes the volumes of one pod; claims outlive it."""

    folder: Path
    pod: PodBody
    objects: Objects
    where: Placement
    claims: Mapping[str, Path]
    token: Token | None
    _in_memory: list[Path] = field(default_factory=list)
    _made: dict[str, Path] = field(default_factory=dict)

    def mounts(self, container: Json) -> list[Mount]:
        """What a container mounts; a volume is made when it is first mounted.

        Raises:
            PodInvalid: a volume that the pod does not have, or that refers to what is not there.
        """
        found = []
        for mount in container.get("volumeMounts") or ():
            source = self._volume(mount["name"])
            if mount.get("subPath"):
                source = source / str(mount["subPath"])
                if not source.exists():
                    self._make_folder(source)
            found.append(Mount(source, mount["mountPath"], bool(mount.get("readOnly"))))
        return found

    def remove(self) -> None:
        """Everything but claims and folders of the host."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in self._in_memory:
            shutil.rmtree(path, ignore_errors=True)

    def _volume(self, name: str) -> Path:
        if name not in self._made:
            found = [each for each in self.pod.spec.get("volumes") or () if each["name"] == name]
            if not found:
                raise PodInvalid(f"there is no volume {name}")
            self._made[name] = self._make(found[0])
        return self._made[name]

    def _make(self, volume: Json) -> Path:
        (kind,) = set(volume) - {"name"}
        source: Json = volume[kind] or {}
        if kind == "hostPath":
            return _host_path(source)
        if kind == "persistentVolumeClaim":
            return self._claim(source["claimName"])
        if kind == "emptyDir":
            return self._empty(volume["name"], source)
        folder = self.folder / str(volume["name"])
        folder.mkdir(parents=True)
        mode = int(source.get("defaultMode", _FILE_MODE))
        for each in source["sources"] if kind == "projected" else [{kind: source}]:
            for name, data in self._files(each).items():
                self._write(folder / name, data, mode)
        return folder

    def _empty(self, name: str, source: Json) -> Path:
        if source.get("medium") == "Memory":
            folder = Path(tempfile.mkdtemp(prefix="loraplane-kubelet-", dir="/dev/shm"))
            self._in_memory.append(folder)
        else:
            folder = self.folder / name
        self._make_folder(folder)
        folder.chmod(folder.stat().st_mode | 0o777)
        return folder

    def _claim(self, name: str) -> Path:
        if name not in self.claims:
            raise PodInvalid(f"PersistentVolumeClaim {name} is not bound")
        folder = self.claims[name]
        self._make_folder(folder)
        return folder

    def _make_folder(self, folder: Path) -> None:
        """A folder whose group is the pod's, as the kubelet does for volumes of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        group = _group(self.pod)
        if group is not None and folder.stat().st_gid != group:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, -1, group)
                path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))

    def _files(self, source: Json) -> dict[str, bytes]:
        ((kind, body),) = source.items()
        if kind == "downwardAPI":
            return {
                item["path"]: pod_field(
                    item["fieldRef"]["fieldPath"], self.pod, self.where
                ).encode()
                for item in body["items"]
            }
        if kind == "serviceAccountToken":
            return {body["path"]: self._account_token(body).encode()}
        found = self.objects.find(
            {"configMap": "ConfigMap", "secret": "Secret"}[kind],
            body.get("name") or body.get("secretName"),
        )
        if found is None:
            if body.get("optional"):
                return {}
            raise PodInvalid(f"{kind} {body.get('name') or body.get('secretName')} is not there")
        data = contents(found)
        if "items" in body:
            return {item["path"]: data[item["key"]] for item in body["items"]}
        return data

    def _account_token(self, body: Json) -> str:
        if self.token is None:
            raise PodInvalid("there is no API server that gives tokens")
        seconds = int(body.get("expirationSeconds", _TOKEN_SECONDS))
        return self.token(self.pod.service_account, body.get("audience"), seconds)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        group = _group(self.pod)
        if group is not None:
            os.chown(path, -1, group)
            mode |= 0o440
        path.chmod(mode)


def account_volume() -> tuple[Json, str]:
    """The volume that every pod with an account's token gets, and its mount path."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    return {"name": "kube-api-access", "projected": {"sources": sources}}, ACCOUNT_FOLDER


def _group(pod: PodBody) -> int | None:
    group = (pod.spec.get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def _host_path(source: Json) -> Path:
    path = Path(source["path"])
    if source.get("type") in {"DirectoryOrCreate"}:
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise PodInvalid(f"hostPath {path} is not there")
    return path
