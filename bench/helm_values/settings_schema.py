"""JSON schemas of the code's settings and engine profile, for the chart's values.schema.json."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from serving.engine.profile import DTYPES, EXTRA_ARGUMENTS, VLLM_RANKS, EngineProfile
from serving.settings import ControllerSettings, EngineSettings

Json = dict[str, Any]

CHART_SETS_ON_CONTROLLER = frozenset(
    {
        "admin_token", "cluster_secret", "controller_port", "data_dir", "database_url", "dtype",
        "fleet", "host", "max_rank", "model", "reference_device", "reference_token", "store_url",
        "upgrade",
    }
)  # fmt: skip
"""Settings of the controller that have values of their own in the chart, or none; those of
`KubernetesSettings` are all the chart's."""

CHART_SETS_ON_ENGINE = frozenset(
    {
        "advertise_url", "cluster_secret", "controller_url", "cpu_slots", "drain_timeout_seconds",
        "dtype", "engine_build_label", "engine_dir", "engine_id", "engine_port", "fleet",
        "gpu_slots", "host", "leave_seconds", "max_model_len", "max_rank", "metrics_token",
        "model", "profile",
    }
)  # fmt: skip
"""The same of the engine; those of the profile are given there alone."""

_SECRETS = frozenset({"deployment_key"})
"""They come by `extraEnv` from a Secret, never by a value."""
_ONLY = {
    "max_rank": {"enum": list(VLLM_RANKS)},
    "dtype": {"enum": list(DTYPES)},
    "shutdown_timeout_seconds": {"type": "integer", "minimum": 0},
    "extra_arguments": {
        "type": "array",
        "items": {"type": "string", "pattern": f"^--({'|'.join(sorted(EXTRA_ARGUMENTS))})(=.*)?$"},
    },
    "waived": {"type": "array", "items": {"enum": ["cpu_slots"]}},
}
_POSITIVE: Json = {"type": "integer", "minimum": 1}


def settings_definitions() -> Json:
    """What stands below `$defs` of the schema for each of the three."""
    return {
        "controllerSettings": _settings(ControllerSettings, CHART_SETS_ON_CONTROLLER),
        "engineSettings": _settings(EngineSettings, CHART_SETS_ON_ENGINE),
        "engineProfile": _closed(
            {
                item.name: _ONLY.get(item.name) or _of_type(hint, _POSITIVE)
                for item, hint in _hinted(EngineProfile)
                if item.name != "model"
            }
        ),
    }


def _settings(owner: type, chart_sets: frozenset[str]) -> Json:
    return _closed(
        {
            item.name: _of_type(hint, {"type": "integer"})
            for item, hint in _hinted(owner)
            if item.name not in chart_sets | _SECRETS
        }
    )


def _hinted(owner: Any) -> list[tuple[Any, str]]:
    hints = get_type_hints(owner)
    return [(item, str(hints[item.name])) for item in dataclasses.fields(owner)]


def _closed(properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _of_type(hint: str, integer: Json) -> Json:
    if "tuple" in hint:
        return {"type": "array", "items": {"type": "string"}}
    for word, schema in (
        ("bool", {"type": "boolean"}),
        ("int", integer),
        ("float", {"type": "number"}),
    ):
        if word in hint:
            return schema
    return {"type": "string"}
