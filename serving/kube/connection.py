"""The way to the API server: credentials, TLS, bounded answers. The only importer of `kubernetes`.

Its generated models are not used: objects stay the JSON that the server sent, so a field that this
program does not know is never lost on the way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import yaml

from serving.kube.errors import (
    KubeConfigInvalid,
    KubeError,
    KubeForbidden,
    KubeTooMuch,
    KubeUnreachable,
    refusal,
)
from serving.kube.kinds import Json

if TYPE_CHECKING:
    import aiohttp
    from kubernetes.aio.client import ApiClient, Configuration

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MAX_ANSWER_BYTES = 64 * 1024**2
"""A page of 500 objects is some megabytes; etcd takes none larger than 1.5 MiB."""
_MAX_LINE_BYTES = 8 * 1024**2
_RELOAD_SECONDS = 10.0
"""A token that is refused is read anew at most this often."""
_WATCH_GRACE_SECONDS = 15.0


class Connection:
    """Speaks HTTP with one API server."""

    def __init__(self, client: ApiClient, kubeconfig: Path | None) -> None:
        """Nothing is connected yet; made by `Connection.open`."""
        self._client, self._kubeconfig = client, kubeconfig
        self._reloaded_at = time.monotonic()

    @classmethod
    async def open(cls, kubeconfig: Path | None) -> Connection:
        """With the pod's service account, or with a kubeconfig's present context.

        Raises:
            KubeConfigInvalid: not in a pod, an unreadable file, or one that switches TLS off.
        """
        # Takes 0.6 s and 40 MB: only where Kubernetes is used at all.
        from kubernetes.aio.client import ApiClient, Configuration

        configuration = Configuration()
        await _load(configuration, kubeconfig)
        try:
            client = ApiClient(configuration)
        except (OSError, ssl.SSLError) as exc:
            raise KubeConfigInvalid(f"the CA certificate cannot be read: {exc}") from exc
        client.user_agent = "loraplane-controller"
        return cls(client, kubeconfig)

    async def close(self) -> None:
        """Close every connection; watches under way end with KubeUnreachable."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Json | None = None,
        timeout_seconds: float,
    ) -> Json:
        """One request, its answer parsed.

        Raises:
            KubeUnreachable, KubeRefused, KubeTooMuch: see there.
        """
        raw = await self.read(method, path, query=query, body=body, timeout_seconds=timeout_seconds)
        try:
            parsed = json.loads(raw)
        except ValueError as exc:
            raise KubeUnreachable("the answer is not JSON") from exc
        if not isinstance(parsed, dict):
            raise KubeUnreachable("the answer is not an object")
        return parsed

    async def read(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Json | None = None,
        timeout_seconds: float,
    ) -> bytes:
        """One request, its answer's bytes; a token that has run out is read anew once.

        Raises:
            KubeUnreachable, KubeRefused, KubeTooMuch: see there.
        """
        for is_last in (False, True):
            try:
                with _ours():
                    async with asyncio.timeout(timeout_seconds):
                        response = await self._send(method, path, query, body, timeout_seconds)
                        async with contextlib.aclosing(_Answer(response)) as answer:
                            return await answer.accepted()
            except KubeForbidden as exc:
                if is_last or exc.status != 401 or not await self._reload():
                    raise
        raise AssertionError("unreachable")

    async def lines(
        self, path: str, *, query: Mapping[str, Any], timeout_seconds: float
    ) -> AsyncGenerator[bytes, None]:
        """A streamed answer, line by line, until the server ends it.

        A server that goes silent is given up a little after `timeout_seconds`.

        Raises:
            KubeUnreachable, KubeRefused, KubeTooMuch: see there.
        """
        bound = timeout_seconds + _WATCH_GRACE_SECONDS
        deadline = asyncio.get_running_loop().time() + bound
        # The deadline holds for reads alone: what the caller does between two lines is its own.
        with _ours():
            async with asyncio.timeout_at(deadline):
                response = await self._send("GET", path, query, None, None)
        async with contextlib.aclosing(_Answer(response)) as answer:
            while True:
                with _ours():
                    async with asyncio.timeout_at(deadline):
                        whole = await answer.next_lines()
                if whole is None:
                    return
                for line in whole:
                    yield line

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Json | None,
        timeout_seconds: float | None,
    ) -> aiohttp.ClientResponse:
        import aiohttp

        configuration = self._client.configuration
        headers = {"Accept": "application/json", "User-Agent": self._client.user_agent}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        for setting in (await configuration.auth_settings()).values():
            headers[str(setting["key"])] = str(setting["value"])
        wanted = {key: value for key, value in (query or {}).items() if value is not None}
        url = configuration.host + path + (f"?{urlencode(wanted)}" if wanted else "")
        response = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
            method,
            url,
            headers=headers,
            body=body,
            _request_timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=10.0),
        )
        return response.response  # type: ignore[no-any-return]

    async def _reload(self) -> bool:
        # Service accounts' tokens are replaced on disk long before they run out; one that is
        # refused nevertheless was revoked, or the clock was wrong.
        if time.monotonic() - self._reloaded_at < _RELOAD_SECONDS:
            return False
        self._reloaded_at = time.monotonic()
        await _load(self._client.configuration, self._kubeconfig)
        return True


class _Answer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response, self._rest = response, b""

    async def accepted(self) -> bytes:
        raw = await self._whole()
        if self._response.status >= 400:
            raise refusal(
                self._response.status,
                _status_object(raw),
                retry_after=self._response.headers.get("Retry-After"),
            )
        return raw

    async def next_lines(self) -> list[bytes] | None:
        """Lines that came since the last call; waits for more; None: the answer has ended."""
        if self._response.status >= 400:
            await self.accepted()
        chunk = await self._response.content.readany()
        if not chunk:
            return None
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            raise KubeTooMuch(what="bytes in a watch's line", limit=_MAX_LINE_BYTES)
        return [line for line in whole if line.strip()]

    async def aclose(self) -> None:
        # Not `release`: what is left of a watch must not be read to its end.
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def _whole(self) -> bytes:
        parts, size = [], 0
        async for chunk in self._response.content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > _MAX_ANSWER_BYTES:
                raise KubeTooMuch(what="bytes in an answer", limit=_MAX_ANSWER_BYTES)
        return b"".join(parts)


def namespace_of_pod() -> str | None:
    """The namespace that this process's pod runs in; None outside of a pod."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


async def _load(configuration: Configuration, kubeconfig: Path | None) -> None:
    from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

    try:
        if kubeconfig is None:
            # Reads the token's file again each minute.
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig),
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError, yaml.YAMLError) as exc:
        raise KubeConfigInvalid(str(exc)) from exc
    if not configuration.verify_ssl:
        raise KubeConfigInvalid("the kubeconfig switches off the check of the server's certificate")


@contextlib.contextmanager
def _ours() -> Any:
    """Turn the libraries' errors into ours."""
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError
    from kubernetes.aio.client.exceptions import ApiException
    from kubernetes.aio.config import ConfigException

    try:
        yield
    except KubeError:
        raise
    except TimeoutError as exc:
        raise KubeUnreachable("the API server did not answer in time") from exc
    except (
        aiohttp.ClientError,
        HttpProcessingError,
        ApiException,
        ConfigException,
        OSError,
    ) as exc:
        raise KubeUnreachable(f"{type(exc).__name__}: {exc}") from exc


def _status_object(raw: bytes) -> Json:
    try:
        body = json.loads(raw)
    except ValueError:
        return {"message": raw[:200].decode(errors="replace")}
    return body if isinstance(body, dict) else {}
