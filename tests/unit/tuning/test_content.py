"""Prompts have exact lengths, are the same for a seed, and share no beginning but on purpose."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from serving.tuning.content import prompt_tokens, prompt_words
from serving.tuning.load_shape import Arrival

BLOCK = 16
"""Tokens that a prefix cache of vLLM keeps together."""


def arrival(
    n_prompt: int = 40, *, adapter: int = 0, kind: str = "short", shared: int = 0
) -> Arrival:
    return Arrival(0.0, n_prompt, 8, adapter, kind, shared)


def tokens(one: Arrival, index: int, seed: int = 0) -> list[int]:
    return prompt_tokens(one, index=index, seed=seed, vocabulary=1000)


@given(st.integers(1, 300), st.integers(0, 400), st.integers(0, 99), st.integers(100, 50000))
def test_a_prompt_has_its_length_in_ids_that_are_no_special_tokens(
    n_prompt: int, shared: int, index: int, vocabulary: int
) -> None:
    one = arrival(n_prompt, shared=shared)

    drawn = prompt_tokens(one, index=index, seed=1, vocabulary=vocabulary)

    assert len(drawn) == n_prompt
    assert all(vocabulary // 10 <= token < vocabulary for token in drawn)
    assert drawn == prompt_tokens(one, index=index, seed=1, vocabulary=vocabulary)


def test_no_two_requests_begin_with_the_same_block() -> None:
    starts = {
        tuple(tokens(arrival(adapter=index % 3), index, seed)[:BLOCK])
        for index, seed in itertools.product(range(200), range(3))
    }

    assert len(starts) == 600


def test_a_shared_prefix_is_that_of_a_class_and_adapter() -> None:
    first, second = (tokens(arrival(shared=24), index) for index in (1, 2))

    assert first[:24] == second[:24]
    assert first[24:] != second[24:]
    for other in (arrival(shared=24, adapter=1), arrival(shared=24, kind="long")):
        assert tokens(other, 1)[:BLOCK] != first[:BLOCK]
    assert tokens(arrival(shared=24), 1, seed=1)[:BLOCK] != first[:BLOCK]


@given(st.integers(1, 60), st.integers(0, 99))
def test_words_are_as_many_as_tokens_were_asked_for(n_prompt: int, index: int) -> None:
    assert len(prompt_words(arrival(n_prompt), index=index, seed=0).split(" ")) == n_prompt
