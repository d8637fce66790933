"""Batches, shared beginnings and batched generation give what one row alone gives."""

import random
import shutil

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, MistralForCausalLM

from adapters.errors import ReferenceFailed
from adapters.parity.protocol import ContinueItem, TokenizedPrompt, VerifyItem
from adapters.parity.reference import Reference
from adapters.parity.reference_batches import Group, Row, plan_groups
from adapters.parity.reference_forward import greedy, has_plain_cache, score_group, score_rows
from adapters.parity.reference_generate import Start, generate_greedily, plan_starts
from tests.builders.micro_base import rewrite_tensors

SYSTEM = tuple(random.Random(5).randrange(5, 300) for _ in range(40))


def prompts(n):
    order = random.Random(n)
    return [SYSTEM + tuple(order.randrange(5, 300) for _ in range(2 + k % 9)) for k in range(n)]


def items(n):
    order = random.Random(n + 1)
    return [
        VerifyItem(f"c{k}", prompt, tuple(order.randrange(5, 300) for _ in range(1 + k % 7)))
        for k, prompt in enumerate(prompts(n))
    ]


@pytest.fixture
def reference(base):
    made = Reference()
    made.load_base(str(base), "float32")
    return made


@pytest.fixture
def model(reference, trained):
    return reference._load(trained).model


def assert_close(first, second):
    assert first.is_finite
    assert first.argmax_ids == second.argmax_ids
    assert first.argmax_logprobs == pytest.approx(second.argmax_logprobs, abs=2e-5)
    assert first.token_logprobs == pytest.approx(second.token_logprobs, abs=2e-5)


@pytest.mark.parametrize("start", [0, 20, 39, 41])
def test_a_shared_beginning_changes_no_number_wherever_scoring_starts(model, start):
    rows = [Row(ids, min(start, len(ids) - 1), ids[start + 1 :]) for ids in prompts(12)]
    assert plan_groups(rows)[0].prefix[:40] == SYSTEM
    assert has_plain_cache(model)

    together = score_rows(model, rows)

    for row, scored in zip(rows, together, strict=True):
        assert_close(scored, score_group(model, Group((), ((row,),)))[row])


def test_the_same_call_gives_the_same_bits_whatever_order_the_items_come_in(reference, trained):
    asked = items(30)
    first = reference.verify(str(trained), asked, True)
    shuffled = random.Random(1).sample(asked, len(asked))
    # What was asked before must not matter either: the base's results are kept.
    reference.verify(None, asked[:7])

    again = {row.case_id: row for row in reference.verify(str(trained), shuffled, True)}
    fresh = Reference()
    fresh.load_base(reference._asked[0], "float32")
    fresh.verify(None, asked[3:11])
    anew = fresh.verify(str(trained), asked, True)

    assert [again[row.case_id] for row in first] == first
    assert anew == first


@pytest.mark.parametrize("adapter", [True, False])
def test_batched_generation_says_what_one_prompt_alone_says(reference, trained, adapter):
    folder = str(trained) if adapter else None
    asked = [ContinueItem(f"c{k}", p, 1 + k % 13) for k, p in enumerate(prompts(14))]
    seen = []

    batched = reference.continue_from(folder, asked, lambda *step: seen.append(step))

    model, context = reference._model(is_bare=not adapter)
    with context:
        for item, done in zip(asked, batched, strict=True):
            tokens, logprobs = greedy(model, item.token_ids, item.n, stop_ids=frozenset({1}))
            assert list(done.token_ids) == tokens
            assert done.logprobs == pytest.approx(logprobs, abs=2e-5)
    assert seen[-1] == (14, 14)


def test_generation_gives_the_same_bits_whatever_order_the_items_come_in(reference, trained):
    asked = [ContinueItem(f"c{k}", p, 8) for k, p in enumerate(prompts(10))]
    first = reference.continue_from(str(trained), asked)

    order = random.Random(2).sample(range(10), 10)
    again = reference.continue_from(str(trained), [asked[k] for k in order])

    assert [again[order.index(k)] for k in range(10)] == first


def test_rows_end_at_a_stop_token_or_at_their_own_limit_and_leave_the_batch(model):
    starts = [Start(ids, 12) for ids in prompts(9)]
    free = generate_greedily(model, starts, stop_ids=())
    stop = free[4].token_ids[3]

    stopped = generate_greedily(model, [*starts, Start((5, 6), 0)], stop_ids={stop})

    for item, whole in zip(stopped, free, strict=False):
        end = whole.token_ids.index(stop) + 1 if stop in whole.token_ids else 12
        assert item.token_ids == whole.token_ids[:end]
    assert stopped[-1].token_ids == []


def test_a_model_whose_cache_forgets_is_read_in_full_and_generated_alone(base, tmp_path):
    windowed = shutil.copytree(base, tmp_path / "windowed")
    config = MistralConfig(**{**LlamaConfig.from_pretrained(base).to_dict(), "sliding_window": 8})
    config.architectures = ["MistralForCausalLM"]
    MistralForCausalLM(config).save_pretrained(windowed)
    reference = Reference()
    reference.load_base(str(windowed), "float32")
    asked = [ContinueItem(f"c{k}", ids, 4) for k, ids in enumerate(prompts(4))]

    generated = reference.continue_from(None, asked)
    read = [
        VerifyItem(a.case_id, a.token_ids, g.token_ids)
        for a, g in zip(asked, generated, strict=True)
    ]

    for item, row, own in zip(asked, reference.verify(None, read), generated, strict=True):
        tokens, _ = greedy(reference._base, item.token_ids, 4, stop_ids=frozenset({1}))
        assert row.argmax_ids == own.token_ids == tuple(tokens)
        assert row.token_logprobs == pytest.approx(own.logprobs, abs=2e-5)


def test_batches_of_starts_are_bounded():
    batches = plan_starts([Start((1,) * (1 + n % 3), 2000) for n in range(1, 9)] * 2)

    assert all(len(batch) * (3 + 2000) <= 8192 for batch in batches)
    assert [len(b) for b in plan_starts([Start((n,), 4) for n in range(40)])] == [32, 8]


def test_an_item_that_is_asked_twice_is_answered_twice(reference):
    seen = []
    asked = [ContinueItem("a", (5, 6), 4), ContinueItem("b", (5, 6), 4)]

    first, second = reference.continue_from(None, asked, lambda *step: seen.append(step))

    assert first == second
    assert seen[-1] == (2, 2)


def test_an_answer_is_decoded_at_once_from_prefix_and_continuation(reference, tokenizer):
    ids = tokenizer("hello there call").input_ids

    joined, parts = reference.decode([ids, [*ids[:1], 1]])

    assert joined == "hello there call"
    assert parts == tokenizer.decode(ids[:1])


def test_generation_stops_where_a_computation_is_not_finite(reference, copy):
    rewrite_tensors(copy, lambda t: {n: v * 1e20 for n, v in t.items()})

    with pytest.raises(ReferenceFailed, match="not finite"):
        reference.continue_from(str(copy), [ContinueItem("c", (5, 6), 2)])


def test_a_value_that_is_not_finite_in_a_shared_beginning_condemns_every_row(reference, copy):
    def poison(tensors):
        return {n: v * 1e25 if "k_proj" in n else v for n, v in tensors.items()}

    asked = [TokenizedPrompt(f"c{k}", ids, 4) for k, ids in enumerate(prompts(6))]

    report = reference.check_finite(str(rewrite_tensors(copy, poison)), asked)

    assert len(report.non_finite_cases) == 6


def test_a_sum_that_overflows_is_not_taken_for_a_value_that_is_not_finite():
    from adapters.parity.reference_forward import all_finite

    assert all_finite(torch.full((4,), 3e38))
    assert not all_finite(torch.tensor([1.0, float("inf"), float("-inf")]))
    assert not all_finite(torch.tensor([1.0, float("nan")]))
