"""vLLM's prompt log probabilities as rows, and what is not taken for them."""

import pytest

from adapters.parity.protocol import VerifyItem
from adapters.parity.runners.openai_answers import read_prompt_logprobs

ITEM = VerifyItem("c", (1, 2), (3,))


def body(last):
    return {"choices": [{"prompt_logprobs": [None, {"2": {"logprob": -1.0, "rank": 1}}, last]}]}


def test_of_equally_likely_tokens_the_one_that_was_read_is_the_choice():
    tied = {"3": {"logprob": -0.5, "rank": 2}, "8": {"logprob": -0.5, "rank": 1}}

    row = read_prompt_logprobs(body(tied), ITEM)

    assert row.argmax_ids == (3,)
    assert row.margin(0) == 0.0


@pytest.mark.parametrize("value", [None, -9999.0])
def test_a_logprob_that_no_finite_computation_gives_is_not_finite(value):
    row = read_prompt_logprobs(body({"3": {"logprob": value, "rank": 1}}), ITEM)

    assert not row.is_finite


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"prompt_logprobs": [None]}]},
        body({"8": {"logprob": -0.5, "rank": 1}}),
        body({"3": {"logprob": -0.5}}),
        body(None),
    ],
)
def test_anything_else_is_no_token_probability(given):
    assert read_prompt_logprobs(given, ITEM) is None
