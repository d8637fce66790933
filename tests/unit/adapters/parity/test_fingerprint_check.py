"""Each way in which an export goes wrong is named, from the files alone."""

import re

import pytest
import torch

from adapters.errors import TensorFileInvalid
from adapters.parity.fingerprint_check import check_fingerprint
from adapters.parity.fingerprint_file import FILE_NAME, parse_fingerprint, read_module_facts
from adapters.peft_config import parse_lora_config
from tests.builders.micro_base import TARGETS, rewrite_config, rewrite_tensors

Q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


def findings(folder, **kwargs):
    fingerprint = parse_fingerprint((folder / FILE_NAME).read_bytes())
    spec = parse_lora_config((folder / "adapter_config.json").read_bytes())
    facts = read_module_facts(spec, folder / "adapter_model.safetensors")
    return check_fingerprint(fingerprint, facts, **kwargs)


def codes(folder, **kwargs):
    return [item.code for item in findings(folder, **kwargs)]


def test_what_was_trained_matches_its_files(trained):
    assert codes(trained) == []


def test_a_changed_alpha_is_named(copy):
    rewrite_config(copy, lora_alpha=16)

    found = findings(copy)

    assert [item.code for item in found] == ["export_alpha_changed"]
    assert (found[0].found, found[0].trained) == (4.0, 2.0)
    assert "lora_alpha was changed" in found[0].text


def test_a_lost_rslora_flag_is_named(make):
    folder = make(use_rslora=True)
    assert codes(folder) == []

    rewrite_config(folder, use_rslora=False)

    assert codes(folder) == ["export_rslora_lost"]


def test_an_added_rslora_flag_is_named(copy):
    rewrite_config(copy, use_rslora=True)

    assert codes(copy) == ["export_rslora_added"]


def test_lost_patterns_are_named(make):
    folder = make(alpha_pattern={"q_proj": 32})

    rewrite_config(folder, alpha_pattern={})

    assert codes(folder) == ["export_alpha_changed"]


def test_scalings_that_changed_differently_are_named(copy):
    rewrite_config(copy, alpha_pattern={"q_proj": 32, "k_proj": 4})

    assert codes(copy) == ["export_scaling_differs"]


def test_exchanged_modules_are_named(copy):
    def exchange(tensors):
        for side in "AB":
            first, second = Q.format(0, side), Q.format(2, side)
            tensors[first], tensors[second] = tensors[second], tensors[first]
        return tensors

    found = findings(rewrite_tensors(copy, exchange))

    assert [item.code for item in found] == ["export_modules_exchanged"]
    assert "layers.0.self_attn.q_proj" in found[0].text
    assert "layers.2.self_attn.q_proj" in found[0].text


def test_exchanged_modules_of_one_layer_are_named(copy):
    def exchange(tensors):
        return {
            re.sub("gate_proj|up_proj", lambda m: _OTHER[m[0]], name): item
            for name, item in tensors.items()
        }

    assert codes(rewrite_tensors(copy, exchange)) == ["export_modules_exchanged"]


_OTHER = {"gate_proj": "up_proj", "up_proj": "gate_proj"}


def test_layers_shifted_by_one_are_named(copy):
    def shift(tensors):
        return {
            re.sub(r"layers\.(\d)", lambda m: f"layers.{(int(m[1]) + 1) % 4}", name): item
            for name, item in tensors.items()
        }

    assert codes(rewrite_tensors(copy, shift)) == ["export_layers_shifted"]


def test_layers_shifted_onto_ones_that_were_never_trained_are_named_too(make):
    folder = make(layers_to_transform=[0])

    def shift(tensors):
        return {name.replace("layers.0", "layers.2"): item for name, item in tensors.items()}

    rewrite_config(folder, layers_to_transform=[2])
    assert codes(rewrite_tensors(folder, shift)) == ["export_layers_shifted"]


def test_a_flipped_sign_of_b_is_named(copy):
    def flip(tensors):
        return {name: -item if "lora_B" in name else item for name, item in tensors.items()}

    found = findings(rewrite_tensors(copy, flip))

    assert [item.code for item in found] == ["export_b_negated"]
    assert found[0].found == 3 * len(TARGETS)


def test_other_values_are_named(copy):
    def nudge(tensors):
        tensors[Q.format(1, "A")] = tensors[Q.format(1, "A")] + 1e-4
        return tensors

    found = findings(rewrite_tensors(copy, nudge))

    assert [item.code for item in found] == ["export_values_changed"]
    assert found[0].where == "model.layers.1.self_attn.q_proj"


def test_another_rank_is_named(copy):
    def cut(tensors):
        return {
            name: item[:2] if "lora_A" in name else item[:, :2] for name, item in tensors.items()
        }

    found = codes(rewrite_config(rewrite_tensors(copy, cut), r=2, lora_alpha=4))

    assert "export_shape_differs" in found


def test_other_shapes_of_the_same_rank_are_named(copy):
    def widen(tensors):
        name = Q.format(0, "A")
        tensors[name] = torch.cat([tensors[name], tensors[name]], dim=1)
        return tensors

    found = findings(rewrite_tensors(copy, widen))

    assert "other shapes" in found[0].text


def test_a_lost_half_of_a_pair_counts_as_a_lost_module(copy):
    rewrite_tensors(
        copy, lambda tensors: {n: t for n, t in tensors.items() if n != Q.format(0, "B")}
    )

    assert codes(copy) == ["export_modules_lost"]


def test_a_prefix_off_by_one_level_loses_every_module_and_adds_others(copy):
    def cut(tensors):
        return {name.replace("model.model.", "model.", 1): item for name, item in tensors.items()}

    assert codes(rewrite_tensors(copy, cut)) == ["export_modules_lost", "export_modules_added"]


def test_another_base_is_named_when_both_revisions_are_known(trained):
    assert codes(trained, base_revision="sha256:other") == ["export_base_differs"]
    own = parse_fingerprint((trained / FILE_NAME).read_bytes()).base.revision
    assert codes(trained, base_revision=own) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "header_length"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "header_length"),
        ((2).to_bytes(8, "little") + b"[]", "header_not_json"),
        ((2).to_bytes(8, "little") + b"{x", "header_not_json"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "entry_malformed"),
        (
            (38).to_bytes(8, "little") + b'{"a":{"shape":[1],"data_offsets":[0,9]}'[:39],
            "header_not_json",
        ),
        (
            (40).to_bytes(8, "little") + b'{"a":{"shape":[1],"data_offsets":[0,9]}}',
            "offsets_outside",
        ),
    ],
)
def test_a_malformed_tensor_file_is_refused(tmp_path, trained, data, reason):
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(data)
    spec = parse_lora_config((trained / "adapter_config.json").read_bytes())

    with pytest.raises(TensorFileInvalid) as caught:
        read_module_facts(spec, file)

    assert caught.value.fields["reason"] == reason
