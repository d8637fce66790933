"""What a key and a `model` mean."""

from __future__ import annotations

import pytest

from serving.contract import Role, TenantEntry
from serving.engine.resolution import (
    BaseModel,
    ModelMissing,
    NotReady,
    Resolution,
    Resolved,
    Table,
    UnknownModel,
    compile_table,
    listing,
    refused_field,
    resolve,
)
from tests.builders.snapshots import key, snapshot, version

ACME = key("acme-key")
BETA = key("beta-key", tenant="beta")
BASE_TOO = key("both", scopes=("inference", "base"))
BASE_ONLY = key("base-only", scopes=("base",))
GATE = key("gate", tenant="", scopes=("gate",))
VERSIONS = (
    version("acme/support@1"),
    version("acme/support@2"),
    version("acme/support@3", role=Role.CANDIDATE),
    version("beta/sql@1"),
)
PROVEN = frozenset(entry.name for entry in VERSIONS)


def table() -> Table:
    return compile_table(
        snapshot(
            *VERSIONS,
            aliases=("acme/support@2", "beta/sql@1"),
            keys=(ACME, BETA),
            tenants=(TenantEntry("acme", 5), TenantEntry("beta")),
        ),
        gate_key_hash=GATE.key_hash,
    )


def answered(grant, model: str | None, *, proven=PROVEN) -> Resolution:  # type: ignore[no-untyped-def]
    return resolve(table(), grant, model, proven=proven)


def name_of(answer: Resolution) -> str:
    assert isinstance(answer, Resolved), answer
    return answer.entry.name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("support", "acme/support@2"),
        ("acme/support", "acme/support@2"),
        ("support@1", "acme/support@1"),
        ("acme/support@1", "acme/support@1"),
    ],
)
def test_every_spelling_of_a_tenants_own_adapter_is_understood(model: str, name: str) -> None:
    assert name_of(answered(ACME, model)) == name


@pytest.mark.parametrize(
    "model",
    ["beta/sql@1", "beta/sql", "sql", "nothing", "support@9", "acme/support@3", "base",
     "../etc/passwd", "text", "acme/support@03", "a" * 5000],
)  # fmt: skip
def test_foreign_candidate_absent_and_malformed_are_all_unknown(model: str) -> None:
    assert answered(ACME, model) == UnknownModel(model)


def test_the_gate_reaches_candidates_and_the_base_model() -> None:
    assert name_of(answered(GATE, "acme/support@3")) == "acme/support@3"
    assert name_of(answered(GATE, "beta/sql")) == "beta/sql@1"
    assert answered(GATE, "base") == BaseModel()


def test_the_base_model_needs_its_scope() -> None:
    assert answered(BASE_TOO, "base") == BaseModel()
    assert answered(BASE_ONLY, "base") == BaseModel()
    assert answered(BASE_ONLY, "support") == UnknownModel("support")


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_model_is_never_silently_the_base_model(missing: str | None) -> None:
    for grant in (ACME, BASE_TOO, GATE):
        assert answered(grant, missing) == ModelMissing()
    assert answered(BASE_ONLY, missing) == BaseModel()


def test_an_unproven_version_is_not_ready_unless_the_key_falls_back() -> None:
    falls_back = key("fb", fallback="base")

    assert answered(ACME, "support", proven=frozenset()) == NotReady("acme/support@2")
    assert answered(falls_back, "support", proven=frozenset()) == BaseModel("acme/support@2")
    assert answered(falls_back, "nothing", proven=frozenset()) == UnknownModel("nothing")


def test_an_alias_without_its_version_is_unknown() -> None:
    lone = compile_table(
        snapshot(aliases=("acme/support@2",), keys=(ACME,)), gate_key_hash=GATE.key_hash
    )

    assert resolve(lone, ACME, "support", proven=PROVEN) == UnknownModel("support")


def test_a_key_sees_only_its_own_models() -> None:
    assert listing(table(), ACME) == [
        ("support", "acme/support@2"),
        ("acme/support@1", "base"),
        ("acme/support@2", "base"),
    ]
    assert listing(table(), BASE_ONLY) == [("base", None)]
    assert ("beta/sql", "beta/sql@1") in listing(table(), GATE)
    assert ("acme/support@3", "base") in listing(table(), GATE)


def test_the_table_always_knows_the_gate_and_the_given_limits() -> None:
    assert table().keys[GATE.key_hash].scopes == ["gate"]
    assert table().limits == {"acme": 5}
    assert table().alias_targets == {"acme/support@2", "beta/sql@1"}


@pytest.mark.parametrize(
    "field",
    ["priority", "kv_transfer_params", "cache_salt", "vllm_xargs", "lora_path", "background",
     "previous_response_id"],
)  # fmt: skip
def test_fields_that_reach_past_the_tenant_are_refused(field: str) -> None:
    assert refused_field({"model": "support", field: "1"}) == field
    assert refused_field({"model": "support", field: None}) is None


def test_a_default_value_is_as_good_as_not_set() -> None:
    assert refused_field({"priority": 0}) is None
    assert refused_field({"background": False}) is None
