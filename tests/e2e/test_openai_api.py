"""A tenant's application talks OpenAI API with its own key."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.engine
PROMPT = "The table is booked for"


def test_the_sdk_gets_the_tenants_adapter_streamed_and_not(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = fleet.tenant(tenant)
    number = fleet.push_live(f"{tenant}/support", adapters[0])
    client = OpenAI(base_url=f"{fleet.engine_url}/v1", api_key=key)
    messages = [{"role": "user", "content": "Which table is free?"}]

    whole = client.chat.completions.create(
        model="support", messages=messages, max_tokens=12, temperature=0
    )
    parts = list(
        client.chat.completions.create(
            model="support", messages=messages, max_tokens=12, temperature=0, stream=True
        )
    )

    assert whole.model == f"{tenant}/support@{number}"
    assert {part.model for part in parts} == {f"{tenant}/support@{number}"}
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content


def test_two_tenants_with_one_model_name_get_their_own_adapters(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    other = f"{tenant}-b"
    keys = {name: fleet.tenant(name) for name in (tenant, other)}
    fleet.push_live(f"{tenant}/support", adapters[0])
    fleet.push_live(f"{other}/support", adapters[1])

    answers = {name: fleet.answer(key, "support", PROMPT) for name, key in keys.items()}

    assert answers[tenant][0] == f"{tenant}/support@1"
    assert answers[other][0] == f"{other}/support@1"
    assert answers[tenant][1] != answers[other][1]


def test_every_way_to_name_a_version_reaches_the_same_one(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = fleet.tenant(tenant)
    fleet.push_live(f"{tenant}/support", adapters[2])
    names = ["support", "support@1", f"{tenant}/support", f"{tenant}/support@1"]

    answers = {fleet.answer(key, name, PROMPT) for name in names}

    assert len(answers) == 1
    assert answers.pop()[0] == f"{tenant}/support@1"


@pytest.mark.parametrize(
    ("path", "body", "header"),
    [
        ("/v1/responses", {"input": PROMPT, "max_output_tokens": 8}, "authorization"),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8},
            "x-api-key",
        ),
    ],
)
def test_the_other_dialects_name_the_version_too(
    fleet: Fleet,
    tenant: str,
    adapters: list[Path],
    path: str,
    body: dict[str, object],
    header: str,
) -> None:
    key = fleet.tenant(tenant)
    fleet.push_live(f"{tenant}/support", adapters[5])
    value = f"Bearer {key}" if header == "authorization" else key

    response = httpx.post(
        fleet.engine_url + path,
        json={"model": "support", "temperature": 0, **body},
        headers={header: value},
        timeout=60,
    )

    assert response.status_code == 200, response.text
    assert response.json()["model"] == f"{tenant}/support@1"


def test_a_foreign_adapter_and_an_unknown_one_are_the_same_404(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    other = f"{tenant}-b"
    key = fleet.tenant(tenant)
    fleet.tenant(other)
    fleet.push_live(f"{other}/secret", adapters[3])

    foreign = fleet.ask(key, f"{other}/secret", PROMPT)
    unknown = fleet.ask(key, f"{other}/nosuch", PROMPT)

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text.replace("secret", "nosuch") == unknown.text


def test_a_key_lists_only_its_own_models(fleet: Fleet, tenant: str, adapters: list[Path]) -> None:
    key = fleet.tenant(tenant)
    fleet.push_live(f"{tenant}/support", adapters[4])

    listed = OpenAI(base_url=f"{fleet.engine_url}/v1", api_key=key).models.list()

    names = {model.id for model in listed}
    assert names
    assert all(name == "support" or name.startswith(f"{tenant}/support") for name in names), names


@pytest.mark.parametrize("model", [None, "", "base"])
def test_the_base_model_never_answers_a_key_without_that_scope(
    fleet: Fleet, tenant: str, model: str | None
) -> None:
    key = fleet.tenant(tenant)

    response = fleet.ask(key, model, PROMPT)

    assert response.status_code in (400, 404)
    assert "choices" not in response.json()


@pytest.mark.parametrize(
    "field",
    [
        {"priority": -5},
        {"cache_salt": "x"},
        {"kv_transfer_params": {"do_remote_prefill": True}},
        {"vllm_xargs": {"a": 1}},
    ],
)
def test_a_field_that_reaches_into_the_engine_is_refused(
    fleet: Fleet, tenant: str, field: dict[str, object]
) -> None:
    key = fleet.tenant(tenant, scopes=["inference", "base"])

    response = fleet.ask(key, "base", PROMPT, **field)

    assert response.status_code == 400
    assert next(iter(field)) in response.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("GET", "/version"),
        ("GET", "/openapi.json"),
    ],
)
def test_routes_off_the_list_do_not_exist_for_a_tenant(
    fleet: Fleet, tenant: str, method: str, path: str
) -> None:
    key = fleet.tenant(tenant)

    response = httpx.request(
        method, fleet.engine_url + path, headers={"Authorization": f"Bearer {key}"}, json={}
    )

    assert response.status_code == 404


def test_without_a_valid_key_nothing_is_answered(fleet: Fleet) -> None:
    assert fleet.ask("lp_" + "x" * 43, "support", PROMPT).status_code == 401
    assert httpx.get(f"{fleet.engine_url}/v1/models").status_code == 401
