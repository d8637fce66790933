"""The file of judges that the setting `judges` names: a YAML or JSON list, read once at start.

- {name: first, url: "https://api.example.com/v1", model: large, api_key_env: JUDGE_KEY}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from serving.controller.judge_client import JudgeEndpoint
from serving.settings import SettingInvalid, secret_from_environment

_NEEDED = ("name", "url", "model")
_FIELDS = frozenset({*_NEEDED, "api_key_env"})
_MAX_TEXT = 500


def load_judges(path: Path | None) -> tuple[JudgeEndpoint, ...]:
    """The configured judges, in the file's order; none without a file.

    Raises:
        SettingInvalid: the file cannot be read, is no such list, or names an environment variable
            that is not set.
    """
    if path is None:
        return ()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise _invalid(path, f"it cannot be read ({type(exc).__name__})") from exc
    if not isinstance(content, list):
        raise _invalid(path, "it holds no list")
    judges = tuple(_read(path, index, item) for index, item in enumerate(content, start=1))
    for what, values in (
        ("name", [judge.name for judge in judges]),
        # One model asked three times is one opinion.
        ("url and model", [(judge.url, judge.model) for judge in judges]),
    ):
        if len(set(values)) != len(values):
            raise _invalid(path, f"two judges have the same {what}")
    return judges


def _read(path: Path, number: int, item: Any) -> JudgeEndpoint:
    where = f"judge {number}"
    if not isinstance(item, dict):
        raise _invalid(path, f"{where} is no mapping")
    unknown = sorted(str(key) for key in item if key not in _FIELDS)
    if unknown:
        raise _invalid(path, f"{where} has an unknown field: {unknown[0]}")
    for name in (*_NEEDED, *(["api_key_env"] if "api_key_env" in item else [])):
        value = item.get(name)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _MAX_TEXT:
            raise _invalid(path, f"{where}: {name} is no text of 1 to {_MAX_TEXT} characters")
    key = None
    if "api_key_env" in item:
        key = secret_from_environment(item["api_key_env"])
        if key is None:
            raise _invalid(path, f"{where}: {item['api_key_env']} is not set")
    return JudgeEndpoint(item["name"], _url(path, where, item["url"]), item["model"], key)


def _url(path: Path, where: str, text: str) -> str:
    """The address with its `/v1`, which a bare host may leave out."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment:
        raise _invalid(path, f"{where}: url is not like https://host/v1")
    if "@" in parts.netloc:
        raise _invalid(path, f"{where}: url holds a user; name a key with api_key_env")
    return text.rstrip("/") if parts.path.strip("/") else text.rstrip("/") + "/v1"


def _invalid(path: Path, problem: str) -> SettingInvalid:
    return SettingInvalid(
        name="LORAPLANE_JUDGES", value=str(path), wanted=f"a list of judges: {problem}"
    )
