"""The configurations of the gateways that ours is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.gateways import envoy_config, litellm_config, litellm_environment
from bench.vllm_pair import with_timers


def test_envoy_listens_and_forwards_on_loopback_alone() -> None:
    text = json.dumps(envoy_config(1234, 5678))

    assert text.count('"address": "127.0.0.1"') == 2
    assert {"1234", "5678"} <= set(text.replace("}", " ").split())


def test_litellm_gets_nothing_of_our_environment_and_no_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", "secret")

    environment = litellm_environment(tmp_path)
    (model,) = litellm_config("http://127.0.0.1:1", "sk-long")["model_list"]

    assert "secret" not in environment.values()
    assert environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:1/v1"


def test_our_middleware_is_between_the_timers_where_the_last_named_is_outermost() -> None:
    command = ["python", "--port", "1", "--middleware", "ours", "--more"]

    timed = with_timers(command)

    middlewares = [timed[i + 1] for i, word in enumerate(timed) if word == "--middleware"]
    assert middlewares == ["bench.asgi_timing.Inner", "ours", "bench.asgi_timing.Outer"]
    assert [word for word in timed if "asgi" not in word and word != "--middleware"] == [
        "python", "--port", "1", "ours", "--more",
    ]  # fmt: skip
