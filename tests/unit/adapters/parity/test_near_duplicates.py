"""The search: what it must find, how often it may miss, and that its numbers are exact."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from adapters.parity.contamination import Banding, ContaminationRules
from adapters.parity.near_duplicates import NearDuplicates, Signer
from adapters.parity.shingles import shingle_keys
from tests.builders.near_texts import exact_jaccard, near_text, random_text

RULES = ContaminationRules()


def found(texts: list[str], documents: list[str]) -> dict[int, tuple[int, float]]:
    search = NearDuplicates(texts, RULES)
    for line, document in enumerate(documents, start=1):
        search.read(line, document)
    return {index: (line, value) for index, line, value in search.matches()}


def missed(lowest: float, highest: float, *, n_seeds: int, n_pairs: int) -> int:
    n_missed = 0
    for seed in range(n_seeds):
        rng = random.Random(seed)
        texts = [random_text(rng, n_words=12) for _ in range(n_pairs)]
        near = [near_text(rng, text, lowest=lowest, highest=highest) for text in texts]
        matches = found(texts, near)
        for index, (line, value) in matches.items():
            assert line == index + 1
            assert value == exact_jaccard(texts[index], near[index])
        n_missed += n_pairs - len(matches)
    return n_missed


def test_planted_near_duplicates_from_0_7_on_are_all_found() -> None:
    # By the formula a pair at 0.7 is missed with 2.3e-8; 1,200 pairs then leave no room for one.
    assert missed(0.7, 0.74, n_seeds=12, n_pairs=100) == 0


def test_planted_near_duplicates_at_the_lowest_threshold_are_missed_as_rarely_as_said() -> None:
    # 1.4e-4 by the formula: 0.1 expected of 800, and more than 3 with a chance under 1e-5.
    assert missed(0.6, 0.62, n_seeds=8, n_pairs=100) <= 3


@pytest.mark.parametrize("lowest", [0.3, 0.5, 0.7, 0.9])
def test_signatures_agree_as_often_as_the_texts_are_alike(lowest: float) -> None:
    signer, rng, errors = Signer(RULES.num_perm), random.Random(5), []
    for _ in range(60):
        text = random_text(rng, n_words=12)
        near = near_text(rng, text, lowest=lowest, highest=lowest + 0.05)
        one, two = (signer.sign(shingle_keys(t, 5)).hashvalues for t in (text, near))
        errors.append(float(np.mean(one == two)) - exact_jaccard(text, near))

    # The standard error of 60 means over 256 values of probability j each; four of them.
    assert abs(np.mean(errors)) < 4 * math.sqrt(0.25 / (60 * RULES.num_perm))


def test_the_banding_misses_little_at_the_lowest_threshold_and_takes_few_by_chance() -> None:
    banding = RULES.banding

    assert banding == Banding(bands=64, rows=4)
    assert banding.miss_probability(0.6) == pytest.approx(1.39e-4, rel=0.01)
    assert banding.miss_probability(0.7) == pytest.approx(2.34e-8, rel=0.01)
    assert banding.miss_probability(1.0) == 0.0
    assert 1 - banding.miss_probability(0.2) < 0.1
    assert Banding(bands=51, rows=5).miss_probability(0.6) > 1e-3


@pytest.mark.parametrize("num_perm", [16, 32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("lowest", [0.01, 0.3, 0.6, 0.95, 1.0])
def test_every_rule_has_a_banding_that_the_library_takes(num_perm: int, lowest: float) -> None:
    rules = ContaminationRules(num_perm=num_perm, jaccard=lowest, sweep=(1.0,))

    search = NearDuplicates(["the same text"], rules)
    search.read(7, "the same text")

    assert rules.banding.bands >= 2
    assert rules.banding.bands * rules.banding.rows <= num_perm
    assert [*search.matches()] == [(0, 7, 1.0)]


def test_identical_texts_are_found_whatever_their_length() -> None:
    texts = ["y", "yes", "hello", "hello!", "x" * 9_000, "größe 東京 🙂", "a b c d e f"]

    matches = found(texts, [f"  {text.upper()} " for text in texts])

    assert matches == {index: (index + 1, 1.0) for index in range(len(texts))}


def test_the_most_similar_document_is_named_and_of_equals_the_first() -> None:
    rng = random.Random(1)
    text = random_text(rng)
    documents = [
        near_text(rng, text, lowest=0.7, highest=0.75), text + " x", text, random_text(rng), text,
    ]  # fmt: skip

    assert found([text], documents) == {0: (3, 1.0)}


def test_two_equal_cases_are_both_found() -> None:
    assert found(["the same text", "the same text"], ["the same text"]).keys() == {0, 1}


def test_empty_texts_are_like_nothing() -> None:
    search = NearDuplicates(["", " \n", "some text"], RULES)
    search.read(1, "")
    search.read(2, "   ")

    assert [*search.matches()] == []
    assert search.n_without_text == 2
    assert found([], ["some text"]) == {}
    assert found(["", ""], ["some text", ""]) == {}


def test_a_huge_document_passes_without_being_signed() -> None:
    assert found(["a short question of one line"], ["z" * 5_000_000]) == {}


def test_documents_are_found_wherever_in_a_batch_they_stand() -> None:
    rng = random.Random(3)
    texts = [random_text(rng, n_words=5) for _ in range(300)]
    noise = "x" * 60_000

    matches = found([*texts, noise], [item for text in texts for item in (text, noise)])

    assert matches == {**{i: (2 * i + 1, 1.0) for i in range(300)}, 300: (2, 1.0)}
