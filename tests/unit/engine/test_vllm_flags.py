"""The command line and environment that vLLM gets; its own parser is asked about the names."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from serving.engine.credentials import SecretMissing
from serving.engine.launch import prepare_launch
from serving.engine.profile import EXTRA_ARGUMENTS, EngineProfile, parse_profile
from serving.engine.vllm_flags import MODULE, WITHHELD, vllm_arguments, vllm_environment
from serving.settings import EngineSettings

FULL = parse_profile(
    {
        "model": "/models/base",
        "gpu_slots": 3,
        "cpu_slots": 12,
        "max_rank": 32,
        "max_model_len": 1024,
        "dtype": "float32",
        "max_num_batched_tokens": 512,
        "max_num_seqs": 16,
        "enforce_eager": True,
        "chat_template": "/models/template.jinja",
        "kv_cache_gib": 2,
        "extra_arguments": ["--seed=3"],
    }
)
SETTINGS = EngineSettings(cluster_secret="s", fleet="small", engine_port=8600)

ASK_VLLM = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
args = parser.parse_args(json.loads(sys.argv[1]))
names = sorted(option for action in parser._actions for option in action.option_strings)
wanted = json.loads(sys.argv[2])
print(json.dumps([names, {name: getattr(args, name) for name in wanted}]))
"""


def value_after(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_a_profile_becomes_flags() -> None:
    arguments = vllm_arguments(FULL, SETTINGS)

    assert value_after(arguments, "--model") == "/models/base"
    assert value_after(arguments, "--served-model-name") == "small"
    assert value_after(arguments, "--port") == "8600"
    assert value_after(arguments, "--max-loras") == "3"
    assert value_after(arguments, "--max-cpu-loras") == "12"
    assert value_after(arguments, "--long-prefill-token-threshold") == "128"
    assert value_after(arguments, "--generation-config") == "vllm"
    assert {"--enable-lora", "--enable-chunked-prefill", "--enforce-eager", "--seed=3"} <= set(
        arguments
    )


def test_what_is_not_chosen_is_left_to_vllm() -> None:
    arguments = vllm_arguments(EngineProfile(model="m", enable_chunked_prefill=False), SETTINGS)

    assert "--no-enable-chunked-prefill" in arguments
    assert not {"--max-num-seqs", "--max-model-len", "--enforce-eager"} & set(arguments)


def test_variables_that_open_routes_or_hide_metrics_are_not_inherited() -> None:
    inherited = {**dict.fromkeys(WITHHELD, "1"), "PATH": "/bin"}

    environment = vllm_environment(FULL, SETTINGS, inherited)

    assert not set(WITHHELD) & environment.keys()
    assert environment["PATH"] == "/bin"
    assert environment["VLLM_PLUGINS"] == "loraplane"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert environment["LORAPLANE_CLUSTER_SECRET"] == "s"
    assert "HF_HUB_OFFLINE" not in environment


def test_a_local_base_model_needs_no_network(tmp_path: Path) -> None:
    environment = vllm_environment(EngineProfile(model=str(tmp_path)), SETTINGS, {})

    assert environment["HF_HUB_OFFLINE"] == "1"


def test_a_launch_starts_with_an_empty_run_folder(tmp_path: Path) -> None:
    settings = EngineSettings(engine_dir=tmp_path / "engine", cluster_secret="s", model="m")
    settings.facts_path.parent.mkdir(parents=True)
    settings.facts_path.write_text("counts of an earlier life")

    launch = prepare_launch(settings, {})

    assert launch.command[:3] == [sys.executable, "-m", MODULE]
    assert launch.environment["LORAPLANE_ENGINE_DIR"] == str(tmp_path / "engine")
    assert list(settings.facts_path.parent.iterdir()) == []


def test_without_the_cluster_secret_nothing_is_started(tmp_path: Path) -> None:
    with pytest.raises(SecretMissing):
        prepare_launch(EngineSettings(engine_dir=tmp_path, model="m"), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_installed_vllm_understands_every_flag() -> None:
    wanted = ["model", "max_loras", "max_cpu_loras", "max_lora_rank", "lora_target_modules",
              "middleware", "shutdown_timeout", "disable_fastapi_docs", "enable_chunked_prefill",
              "long_prefill_token_threshold", "worker_extension_cls"]  # fmt: skip

    asked = subprocess.run(
        [sys.executable, "-c", ASK_VLLM, json.dumps(vllm_arguments(FULL, SETTINGS)),
         json.dumps(wanted)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert asked.returncode == 0, asked.stderr[-2000:]
    names, values = json.loads(asked.stdout.splitlines()[-1])
    assert {f"--{name}" for name in EXTRA_ARGUMENTS} <= set(names)
    assert values == {
        "model": "/models/base",
        "max_loras": 3,
        "max_cpu_loras": 12,
        "max_lora_rank": 32,
        "lora_target_modules": list(FULL.target_modules),
        "middleware": ["serving.engine.tenancy.TenancyMiddleware"],
        "shutdown_timeout": 60,
        "disable_fastapi_docs": True,
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": 128,
        "worker_extension_cls": "serving.engine.compat.worker.WorkerExtension",
    }
