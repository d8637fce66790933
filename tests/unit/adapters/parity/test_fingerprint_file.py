import json

import pytest

from adapters.errors import FingerprintInvalid
from adapters.parity import fingerprint_file
from adapters.parity.fingerprint_file import parse_fingerprint, parse_tensor_name

TENSOR = {"shape": [2, 3], "dtype": "float32", "sha256": "00"}
GOOD = {
    "base": {"name": "b", "revision": None, "dtype": "float32"},
    "modules": {"model.layers.0.q": {"scaling": 2.0, "a": TENSOR, "b": TENSOR}},
    "answers": [{"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-0.5]}],
}


def test_a_fingerprint_is_read():
    fingerprint = parse_fingerprint(json.dumps(GOOD).encode())

    assert fingerprint.modules["model.layers.0.q"].rank == 2
    assert fingerprint.recorded_answers[0].token_ids == (2,)
    assert not fingerprint.use_rslora


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 2}, "format"),
        ({"modules": {}}, "modules"),
        (
            {"modules": {"m": {"scaling": 1.0, "a": {**TENSOR, "shape": [2]}, "b": TENSOR}}},
            "modules.m",
        ),
        ({"answers": [{"prompt_token_ids": [], "token_ids": [], "logprobs": []}]}, "answers[0]"),
        ({"answers": [{"prompt_token_ids": [1], "token_ids": [1], "logprobs": []}]}, "answers[0]"),
        (
            {
                "answers": [
                    {
                        "prompt_token_ids": [1],
                        "token_ids": [1],
                        "logprobs": [-1.0],
                        "base_logprobs": [-1.0, -2.0],
                    }
                ]
            },
            "answers[0]",
        ),
        ({"answers": [GOOD["answers"][0]] * 65}, "answers"),
        ({"base": 3}, "$.base"),
    ],
)
def test_a_malformed_fingerprint_is_refused_with_its_field(change, field):
    with pytest.raises(FingerprintInvalid) as caught:
        parse_fingerprint(json.dumps({**GOOD, **change}).encode())

    assert caught.value.fields["field"] == field


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_fingerprint_is_refused(data):
    with pytest.raises(FingerprintInvalid):
        parse_fingerprint(data)


def test_a_fingerprint_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(fingerprint_file, "MAX_BYTES", 10)

    with pytest.raises(FingerprintInvalid, match="larger"):
        parse_fingerprint(json.dumps(GOOD).encode())


def test_tensor_names_say_module_and_side():
    place = parse_tensor_name("base_model.model.model.layers.3.mlp.up_proj.lora_B.weight")

    assert place == ("model.layers.3.mlp.up_proj", "B")
    assert parse_tensor_name("base_model.model.lm_head.weight") is None
