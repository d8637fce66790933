"""A private Kubernetes API server (etcd, API server, optionally the controller manager) for tests.

Its programs lie in the folder that `KUBEBUILDER_ASSETS` names, the usual convention. Everything
listens on loopback alone, with certificates of its own; starting takes about two seconds, so one
serves a whole session and each test gets a namespace of its own.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ASSETS = "KUBEBUILDER_ASSETS"
WITHOUT_ASSETS = f"{ASSETS} names no folder with etcd and kube-apiserver"
_READY_SECONDS = 120.0
_STOP_SECONDS = 20.0
_CONTROLLERS = (
    "deployment,replicaset,statefulset,daemonset,job,replicationcontroller,"
    "garbagecollector,namespace,serviceaccount"
)


def find_assets() -> Path | None:
    """The folder with the servers' programs, or None."""
    folder = Path(os.environ.get(ASSETS) or "/nonexistent").resolve()
    is_there = all((folder / name).exists() for name in ("etcd", "kube-apiserver"))
    return folder if is_there else None


class Authority:
    """A certificate authority of one test session."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("tests", ())
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, groups: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """(certificate, key) for a user of these groups, or for the server on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName("localhost"),
            x509.DNSName("kubernetes.default.svc"),
            x509.IPAddress(IPv4Address("127.0.0.1")),
        ]
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(_name(name, groups), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )


@dataclass
class ApiServer:
    """A running one."""

    url: str
    folder: Path
    authority: Authority
    etcd_url: str
    _kubeconfigs: dict[tuple[str, tuple[str, ...]], Path] = field(default_factory=dict)

    def kubeconfig(self, user: str = "admin", groups: Sequence[str] = ("system:masters",)) -> Path:
        """A kubeconfig file of this user, who may do what RBAC says; by default everything."""
        known = (user, tuple(groups))
        if known not in self._kubeconfigs:
            path = self.folder / f"kubeconfig-{len(self._kubeconfigs)}"
            path.write_text(self.kubeconfig_text(self.url, user, groups))
            path.chmod(0o600)
            self._kubeconfigs[known] = path
        return self._kubeconfigs[known]

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig file of a service account."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return self.kubeconfig(f"system:serviceaccount:{namespace}:{name}", groups)

    def kubeconfig_text(self, url: str, user: str, groups: Sequence[str]) -> str:
        """The same for another way to the server, such as a proxy."""
        certificate, key = self.authority.issue(user, groups)
        entry = {
            "client-certificate-data": base64.b64encode(certificate).decode(),
            "client-key-data": base64.b64encode(key).decode(),
        }
        return kubeconfig_text(url, entry, self.authority.pem)

    def compact(self) -> None:
        """Make etcd forget every past state, as it does in a cluster after some minutes."""
        status = httpx.post(f"{self.etcd_url}/v3/maintenance/status", json={}).json()
        revision = int(status["header"]["revision"])
        answer = httpx.post(
            f"{self.etcd_url}/v3/kv/compaction", json={"revision": revision, "physical": True}
        )
        answer.raise_for_status()


def free_port() -> int:
    """A port of loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kubeconfig_text(url: str, user: dict[str, str], authority: bytes | None = None) -> str:
    """A kubeconfig file's content."""
    cluster = {"server": url}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "current-context": "tests",
        }
    )


@contextlib.contextmanager
def run_api_server(*, controller_manager: bool = False) -> Iterator[ApiServer]:
    """Start the servers, yield the API server, stop them all.

    `controller_manager`: also what makes pods of Jobs and StatefulSets, and collects garbage. There
    is never a kubelet: a pod stays as a test says that it is.
    """
    assets = find_assets()
    if assets is None:
        raise FileNotFoundError(WITHOUT_ASSETS)
    folder = Path(tempfile.mkdtemp(prefix="kube-", dir="/tmp"))
    authority = Authority()
    _write_secrets(folder, authority)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        etcd_url = f"http://127.0.0.1:{free_port()}"
        stack.enter_context(_running(folder, "etcd", _etcd(assets, folder, etcd_url)))
        port = free_port()
        server = ApiServer(f"https://127.0.0.1:{port}", folder, authority, etcd_url)
        command = _api_server(assets, folder, etcd_url, port)
        process = stack.enter_context(_running(folder, "apiserver", command))
        _wait_ready(process, server)
        if controller_manager:
            command = _controller_manager(assets, folder, server.kubeconfig())
            stack.enter_context(_running(folder, "controllers", command))
        yield server


def _etcd(assets: Path, folder: Path, url: str) -> list[str]:
    peer = f"http://127.0.0.1:{free_port()}"
    return [
        str(assets / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        # Nothing here has to survive a crash of the machine.
        "--unsafe-no-fsync",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def _api_server(assets: Path, folder: Path, etcd_url: str, port: int) -> list[str]:
    return [
        str(assets / "kube-apiserver"),
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer=https://127.0.0.1:{port}",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
        # So that a watch of these sees at once that etcd has forgotten.
        "--watch-cache-sizes=configmaps#0",
    ]


def _controller_manager(assets: Path, folder: Path, kubeconfig: Path) -> list[str]:
    return [
        str(assets / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--port=0",
        f"--secure-port={free_port()}",
        "--leader-elect=false",
        "--use-service-account-credentials=false",
        f"--service-account-private-key-file={folder / 'sa.key'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        f"--controllers={_CONTROLLERS}",
    ]


@contextlib.contextmanager
def _running(folder: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        if name == "apiserver":
            # The first signal alone waits up to a minute for open watches.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], server: ApiServer) -> None:
    certificate, key = server.authority.issue("admin", ("system:masters",))
    (server.folder / "probe.pem").write_bytes(certificate + key)
    trust = ssl.create_default_context(cadata=server.authority.pem.decode())
    trust.load_cert_chain(server.folder / "probe.pem")
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(verify=trust, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                log = (server.folder / "apiserver.log").read_text(errors="replace")
                raise RuntimeError(f"the API server ended: {_last_words(log)}")
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{server.url}/readyz").status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
    raise TimeoutError(f"the API server was not ready within {_READY_SECONDS:.0f} s")


def _last_words(log: str) -> str:
    lines = [line for line in log.splitlines() if re.search(r"error|fail|^[EF]\d", line, re.I)]
    return "\n".join((lines or log.splitlines())[-5:])


def _write_secrets(folder: Path, authority: Authority) -> None:
    certificate, key = authority.issue("kube-apiserver")
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, content in (
        ("ca.crt", authority.pem),
        ("server.crt", certificate),
        ("server.key", key),
        ("sa.key", _private_pem(accounts)),
        ("sa.pub", public),
    ):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _name(name: str, groups: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
