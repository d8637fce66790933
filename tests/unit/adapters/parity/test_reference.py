"""The standalone side in this process, on a micro base with a really trained adapter."""

import math
import re
import shutil

import pytest
import torch

from adapters.errors import ReferenceFailed, StrictLoadFailed, SuiteInvalid
from adapters.parity.protocol import SuitePrompt, TokenizedPrompt, VerifyItem
from adapters.parity.reference import Reference
from adapters.parity.suite import builtin_probe
from tests.builders.micro_base import live_adapter, micro_base, rewrite_config, rewrite_tensors

PROMPTS = [TokenizedPrompt(f"case-{n}", tuple(range(5, 8 + 5 * n)), 8) for n in range(4)]


@pytest.fixture(scope="module")
def shared(base):
    reference = Reference()
    reference.load_base(str(base), "float32")
    return reference


@pytest.fixture
def reference(base):
    made = Reference()
    made.load_base(str(base), "float32")
    return made


def greedy_items(reference, adapter):
    return [
        VerifyItem(p.case_id, p.token_ids, reference.generate(adapter, p.token_ids, 8).token_ids)
        for p in PROMPTS
    ]


def test_a_loaded_base_says_what_it_is_and_is_kept(shared, base):
    facts = shared.load_base(str(base), "float32")

    assert facts.dtype == "float32"
    assert facts.revision.startswith("sha256:")
    assert facts.eos_token_ids == (1,)
    assert set(facts.versions) == {"python", "torch", "transformers", "peft"}
    assert shared.load_base(str(base), "float32") is facts


def test_the_revision_names_weights_and_not_number_types_or_adapters(shared, base, tmp_path):
    from adapters.parity.reference_revision import base_revision

    own = shared.load_base(str(base), "float32").revision
    other_base = micro_base(tmp_path / "other", seed=4)

    assert Reference().load_base(str(base), "bfloat16").revision == own
    assert base_revision(live_adapter(base)) == own
    assert Reference().load_base(str(other_base), "float32").revision != own


def test_a_good_adapter_is_finite_has_an_effect_and_applies_what_its_config_says(shared, trained):
    seen = []

    report = shared.check_finite(
        str(trained), PROMPTS, lambda done, total: seen.append((done, total))
    )

    assert report.non_finite_cases == ()
    assert all(row.mean_nats > 0.01 and row.last_nats is not None for row in report.effects)
    assert {item.scaling for item in report.modules} == {2.0}
    assert len(report.modules) == 21
    assert seen[-1] == (8, 8)


def test_a_good_adapter_agrees_with_itself_token_by_token(shared, trained):
    adapter = str(trained)
    items = greedy_items(shared, adapter)

    rows = shared.verify(adapter, items, True)

    for item, row in zip(items, rows, strict=True):
        assert row.argmax_ids == item.token_ids
        generated = shared.generate(adapter, item.prompt_token_ids, 8).logprobs
        assert row.token_logprobs == pytest.approx(generated, abs=1e-4)
        assert row.margin(0) == 0.0
        effect = max(
            abs(a - b) for a, b in zip(row.token_logprobs, row.base_token_logprobs, strict=True)
        )
        assert effect > 0.01


def test_rows_come_in_order_and_do_not_depend_on_their_batch(shared, trained):
    items = greedy_items(shared, str(trained))

    together = shared.verify(str(trained), items)
    alone = [shared.verify(str(trained), [item])[0] for item in reversed(items)]

    for first, second in zip(together, reversed(alone), strict=True):
        assert first.case_id == second.case_id
        assert first.token_logprobs == pytest.approx(second.token_logprobs, abs=1e-4)


def test_the_base_answers_the_same_before_beside_and_after_an_adapter(reference, trained):
    items = [VerifyItem("c", (5, 6, 7), (8, 9, 10))]
    before = reference.verify(None, items)

    beside = reference.verify(str(trained), items, True)[0]
    reference._base_rows.clear()
    after = reference.verify(None, items)

    assert before == after
    assert beside.base_token_logprobs == before[0].token_logprobs
    assert beside.token_logprobs != before[0].token_logprobs


def test_results_of_the_base_are_kept_by_content(reference, monkeypatch):
    items = [VerifyItem("one", (5, 6, 7), (8, 9)), VerifyItem("two", (5, 6, 7), (8, 9))]
    first = reference.verify(None, items)
    seen = []
    monkeypatch.setattr(reference._base, "forward", lambda **_: pytest.fail("read again"))

    again = reference.verify(None, items, False, lambda done, total: seen.append((done, total)))

    assert again == first
    assert [row.case_id for row in again] == ["one", "two"]
    assert seen[-1] == (2, 2)


def test_kept_results_are_bounded(reference, monkeypatch):
    monkeypatch.setattr("adapters.parity.reference_base_rows.MAX_ROWS", 2)

    for n in range(5):
        reference.verify(None, [VerifyItem("c", (5, n), (8,))])

    assert len(reference._base_rows) == 2


def test_an_answer_of_no_token_gives_an_empty_row(shared):
    row = shared.verify(None, [VerifyItem("c", (5, 6), ())])[0]

    assert row.is_finite
    assert row.token_logprobs == ()


def test_adapters_are_swapped_and_changed_files_are_read_again(reference, trained, copy):
    items = [VerifyItem("c", (5, 6, 7), (8, 9, 10))]
    first = reference.verify(str(copy), items)

    rewrite_config(copy, lora_alpha=80)
    changed = reference.verify(str(copy), items)
    original = reference.verify(str(trained), items)

    assert changed != first
    assert original == first


def test_bfloat16_computes_the_adapter_in_the_served_number_type(base, trained):
    reference = Reference()
    facts = reference.load_base(str(base), "bfloat16")

    report = reference.check_finite(str(trained), PROMPTS)

    assert facts.dtype == "bfloat16"
    assert report.non_finite_cases == ()
    loaded = reference._loaded.model
    assert {w.dtype for n, w in loaded.named_parameters() if "lora_" in n} == {torch.bfloat16}


# What strict loading refuses


def refused(reference, folder) -> StrictLoadFailed:
    with pytest.raises(StrictLoadFailed) as caught:
        reference.check_finite(str(folder), PROMPTS)
    return caught.value


def test_a_prefix_off_by_one_level_is_refused(reference, trained, copy):
    rewrite_tensors(
        copy, lambda t: {n.replace("model.model.", "model.", 1): v for n, v in t.items()}
    )

    error = refused(reference, copy)

    assert len(error.fields["missing"]) == len(error.fields["unexpected"]) == 42
    # The base is whole again: the next adapter is not judged on a leftover.
    assert reference.check_finite(str(trained), PROMPTS).non_finite_cases == ()


def test_missing_layers_are_refused(reference, copy):
    rewrite_tensors(copy, lambda t: {n: v for n, v in t.items() if "layers.2" not in n})

    error = refused(reference, copy)

    assert len(error.fields["missing"]) == 14
    assert error.fields["unexpected"] == []


def test_layers_that_the_base_lacks_are_refused(reference, copy):
    rewrite_tensors(
        copy,
        lambda t: {
            re.sub(r"layers\.(\d)", lambda m: f"layers.{int(m[1]) + 1}", n): v for n, v in t.items()
        },
    )

    error = refused(reference, copy)

    assert all("layers.3" in name for name in error.fields["unexpected"])
    assert all("layers.0" in name for name in error.fields["missing"])


def test_a_missing_half_of_a_pair_is_refused(reference, copy):
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    rewrite_tensors(copy, lambda t: {n: v for n, v in t.items() if n != name})

    assert refused(reference, copy).fields["missing"] == [name]


def test_tensors_of_another_shape_are_refused(reference, copy):
    rewrite_config(copy, r=2)

    assert "the model wants" in refused(reference, copy).fields["problem"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(reference, copy, value):
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"

    def poison(tensors):
        tensors[name][3, 1] = value
        return tensors

    assert refused(reference, rewrite_tensors(copy, poison)).fields["non_finite"] == [name]


def test_a_weight_that_overflows_in_the_served_number_type_is_refused(base, copy):
    reference = Reference()
    reference.load_base(str(base), "float16")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"

    def enlarge(tensors):
        tensors[name][0, 0] = 1e6
        return tensors

    assert refused(reference, rewrite_tensors(copy, enlarge)).fields["non_finite"] == [name]


@pytest.mark.parametrize(
    "change",
    [{"bias": "all"}, {"use_dora": True}, {"init_lora_weights": "pissa"}, {"r": "many"}],
)
def test_what_would_change_the_base_or_cannot_be_read_is_refused(reference, copy, change):
    assert refused(reference, rewrite_config(copy, **change)).fields["problem"]


def test_targets_that_the_base_lacks_are_refused_and_leave_the_base_whole(reference, trained, copy):
    rewrite_config(copy, target_modules=["c_attn"])

    assert "PEFT cannot build" in refused(reference, copy).fields["problem"]
    assert reference.check_finite(str(trained), PROMPTS).non_finite_cases == ()


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_absent_file_is_refused(reference, copy, file):
    (copy / file).unlink()

    assert "cannot be read" in refused(reference, copy).fields["problem"]


def test_a_truncated_tensor_file_is_refused(reference, copy):
    file = copy / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])

    assert "cannot be read" in refused(reference, copy).fields["problem"]


# What only reading shows


def test_huge_weights_that_are_finite_are_found_before_any_engine_sees_them(shared, copy):
    rewrite_tensors(copy, lambda t: {n: v * 1e20 for n, v in t.items()})

    report = shared.check_finite(str(copy), PROMPTS)

    assert set(report.non_finite_cases) == {p.case_id for p in PROMPTS}
    assert report.effects[0].mean_nats is None
    assert not shared.verify(str(copy), [VerifyItem("c", (5, 6), (7,))])[0].is_finite


def test_an_infinite_key_is_found_although_a_softmax_could_hide_it(shared, copy):
    def enlarge(tensors):
        return {n: v * 1e25 if "k_proj" in n else v for n, v in tensors.items()}

    assert shared.check_finite(str(rewrite_tensors(copy, enlarge)), PROMPTS).non_finite_cases


def test_an_inert_adapter_has_no_effect_at_all(shared, copy):
    rewrite_tensors(copy, lambda t: {n: v * 0 if "lora_B" in n else v for n, v in t.items()})

    report = shared.check_finite(str(copy), PROMPTS)

    assert {row.mean_nats for row in report.effects} == {0.0}
    assert {row.last_nats for row in report.effects} == {0.0}


# Tokens


def test_the_builtin_probe_can_be_tokenized_and_tools_are_seen(shared):
    prompts = shared.tokenize(builtin_probe().to_prompts())

    assert len(prompts) == 24
    assert all(item.token_ids and item.max_tokens == 32 for item in prompts)


def test_a_plain_prompt_is_taken_as_it_is_and_messages_get_the_template(shared, tokenizer):
    messages = [{"role": "user", "content": "hello"}]

    plain, chat = shared.tokenize(
        [SuitePrompt("a", 4, prompt="hello"), SuitePrompt("b", 4, messages=messages)]
    )

    assert tokenizer.decode(plain.token_ids) == "hello"
    assert tokenizer.decode(chat.token_ids) == "<s>user hello</s><s>assistant "


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        (SuitePrompt("a", 4, messages=[{"role": "developer", "content": "x"}]), "a.messages"),
        (SuitePrompt("a", 4, prompt=""), "a.prompt"),
        (SuitePrompt("a", 400, prompt="hello"), "a.max_tokens"),
    ],
)
def test_a_case_that_the_base_cannot_take_is_named(shared, prompt, field):
    with pytest.raises(SuiteInvalid) as caught:
        shared.tokenize([prompt], 128)

    assert caught.value.fields["field"] == field


# Bases


def test_nothing_works_without_a_base():
    with pytest.raises(ReferenceFailed, match="no base"):
        Reference().tokenize([])


@pytest.mark.parametrize("dtype", ["float8", "float32"])
def test_a_base_that_cannot_be_loaded_says_so(tmp_path, dtype):
    with pytest.raises(ReferenceFailed):
        Reference().load_base(str(tmp_path), dtype)


def test_another_base_replaces_the_first_and_its_results(reference, trained, tmp_path):
    reference.verify(str(trained), [VerifyItem("c", (5,), (6,))])

    reference.load_base(str(micro_base(tmp_path / "other", seed=9)), "float32")

    assert not reference._base_rows
    assert reference.verify(None, [VerifyItem("c", (5,), (6,))])[0].is_finite


def test_generation_ends_at_the_end_of_sequence(shared, base, tmp_path):
    import json

    other = shutil.copytree(base, tmp_path / "stops")
    first = shared.generate(None, (5, 6, 7), 3).token_ids[1]
    for name in ("config.json", "generation_config.json"):
        content = json.loads((other / name).read_text())
        (other / name).write_text(json.dumps({**content, "eos_token_id": [first]}))
    reference = Reference()
    reference.load_base(str(other), "float32")

    assert len(reference.generate(None, (5, 6, 7), 9).token_ids) == 2
