"""Texts as sets of shingles, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.parity.shingles import jaccard, normalise, shingle_keys, shingle_set

texts = st.text(max_size=60)
sizes = st.integers(1, 8)


@given(texts, sizes)
def test_keys_are_as_many_as_the_shingles_of_the_definition(text: str, size: int) -> None:
    naive = {text[i : i + size] for i in range(max(len(text) - size + 1, 1))} - {""}

    assert shingle_set(text, size) == naive
    assert len(shingle_keys(text, size)) == len(naive)


@given(texts, texts, sizes)
def test_keys_of_two_texts_meet_where_their_shingles_do(left: str, right: str, size: int) -> None:
    n_shared = len(np.intersect1d(shingle_keys(left, size), shingle_keys(right, size)))

    assert n_shared == len(shingle_set(left, size) & shingle_set(right, size))


@given(texts, texts, sizes)
def test_similarity_is_symmetric_and_one_only_for_equal_sets(
    left: str, right: str, size: int
) -> None:
    one, two = shingle_set(left, size), shingle_set(right, size)

    value = jaccard(one, two)

    assert value == jaccard(two, one)
    if one or two:
        assert value is not None
        assert 0.0 <= value <= 1.0
        assert (value == 1.0) == (one == two)
    else:
        assert value is None


def test_similarity_agrees_with_a_case_counted_by_hand() -> None:
    # abcd bcde cdef against bcde cdef defg: 2 shared of 4.
    assert jaccard(shingle_set("abcdef", 4), shingle_set("bcdefg", 4)) == 0.5


@pytest.mark.parametrize(
    "same",
    [
        "Book  a flight\nto ZÜRICH ",
        "book a flight to zu\u0308rich",
        "book\u00a0a flight to z\u00fcrich",
        "\uff42ook a \ufb02ight to zürich",
    ],
)
def test_spelling_of_the_same_words_is_no_difference(same: str) -> None:
    assert normalise(same) == "book a flight to zürich"


@given(texts)
def test_normal_form_has_single_blanks_alone(text: str) -> None:
    normal = normalise(text)

    assert normal == " ".join(normal.split())
    assert normalise(f" \t{text}\n") == normal


def test_a_text_shorter_than_a_shingle_is_like_itself_alone() -> None:
    assert shingle_set("yes", 5) == {"yes"}
    assert jaccard(shingle_set("yes", 5), shingle_set("yes!", 5)) == 0.0


def test_a_lone_surrogate_is_a_character_like_any_other() -> None:
    assert len(shingle_keys("\ud800abcdef", 5)) == 3
