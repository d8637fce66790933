"""The file of judges: read whole or refused with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.controller.judges_file import load_judges
from serving.settings import SettingInvalid

GOOD: dict[str, Any] = {"name": "a", "url": "http://h/v1", "model": "m"}


def write(folder: Path, content: Any) -> Path:
    path = folder / "judges.yaml"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_yaml_and_json_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    yaml = (
        "- {name: a, url: 'https://api.example.com/v1/', model: large, api_key_env: JUDGE_KEY}\n"
        "- {name: b, url: 'http://judge:8000', model: small}\n"
    )

    first, second = load_judges(write(tmp_path, yaml))

    assert (first.url, first.api_key) == ("https://api.example.com/v1", "secret")
    assert (second.url, second.api_key, second.host) == ("http://judge:8000/v1", None, "judge:8000")
    assert load_judges(write(tmp_path, [GOOD]))[0].name == "a"


def test_without_a_file_there_are_no_judges() -> None:
    assert load_judges(None) == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot be read"),
        ("name: a", "no list"),
        ("", "no list"),
        (["a"], "judge 1 is no mapping"),
        ([{**GOOD, "key": "k"}], "judge 1 has an unknown field: key"),
        ([{"name": "a", "url": "http://h"}], "judge 1: model is no text"),
        ([GOOD, {**GOOD, "name": ""}], "judge 2: name is no text"),
        ([{**GOOD, "model": 7}], "judge 1: model is no text"),
        ([{**GOOD, "url": "h:80"}], "like https://host/v1"),
        ([{**GOOD, "url": "ftp://h"}], "like https://host/v1"),
        ([{**GOOD, "url": "http://h:x"}], "like https://host/v1"),
        ([{**GOOD, "url": "http://h/v1?key=k"}], "like https://host/v1"),
        ([{**GOOD, "url": "http://me:pw@h/v1"}], "holds a user"),
        ([{**GOOD, "api_key_env": "NO_SUCH_VARIABLE"}], "NO_SUCH_VARIABLE is not set"),
        ([{**GOOD, "api_key_env": None}], "api_key_env is no text"),
        ([GOOD, {**GOOD, "model": "n"}], "the same name"),
        ([GOOD, {**GOOD, "name": "b"}], "the same url and model"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        load_judges(write(tmp_path, content))

    assert problem in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="FileNotFoundError"):
        load_judges(tmp_path / "none.yaml")
