"""Suites and training sets with known near-duplicates, made of random words from a seed."""

from __future__ import annotations

import json
import random
from typing import Any

from adapters.parity.shingles import jaccard, normalise, shingle_set
from adapters.parity.suite import Case

SYSTEM = "You are the travel desk of Acme. Call exactly one of the tools that you are given. " * 5
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def random_text(rng: random.Random, *, n_words: int = 20) -> str:
    """Words that no other text has: two such texts share next to no shingle."""
    return " ".join("".join(rng.choices(_LETTERS, k=rng.randint(3, 9))) for _ in range(n_words))


def exact_jaccard(left: str, right: str, *, size: int = 5) -> float:
    """By the definition, of the normalised texts."""
    value = jaccard(*(shingle_set(normalise(text), size) for text in (left, right)))
    assert value is not None
    return value


def near_text(rng: random.Random, text: str, *, lowest: float, highest: float) -> str:
    """`text` with characters changed until its similarity is at most `highest`, never below."""
    for _ in range(100):
        changed = list(text)
        while (value := exact_jaccard(text, "".join(changed))) > highest:
            changed[rng.randrange(len(changed))] = rng.choice(_LETTERS)
        if value >= lowest:
            return "".join(changed)
    raise AssertionError(f"no text between {lowest} and {highest}")


def a_case(number: int, text: str) -> Case:
    """One whose system prompt and tools every other case has too."""
    messages = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": text})
    tools = ({"type": "function", "function": {"name": "book", "description": SYSTEM}},)
    return Case(id=f"case-{number}", messages=messages, tools=tools, segment="booking")


def a_document(text: str, answer: str = "ok") -> dict[str, Any]:
    """A training line in OpenAI's form, under the same system prompt."""
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
        ]
    }


def suite_lines(cases: list[Case]) -> bytes:
    return b"".join(json.dumps(case.to_json()).encode() + b"\n" for case in cases)


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def a_contaminated_world(
    n_cases: int, n_leaked: int, *, n_documents: int = 300, seed: int = 0
) -> tuple[bytes, bytes, list[str]]:
    """(suite, training set, ids of the leaked): the leaked differ in few characters, J 0.8 to 0.9.

    Case `i * step` leaked into the training set, spread over suite and training set alike.
    """
    rng = random.Random(seed)
    texts = [random_text(rng) for _ in range(n_cases)]
    step = n_cases // max(n_leaked, 1)
    leaked = [number * step for number in range(n_leaked)]
    documents = [random_text(rng) for _ in range(n_documents - n_leaked)]
    documents += [near_text(rng, texts[i], lowest=0.8, highest=0.9) for i in leaked]
    rng.shuffle(documents)
    cases = [a_case(number, text) for number, text in enumerate(texts)]
    training = json_lines([a_document(text, answer=SYSTEM) for text in documents])
    return suite_lines(cases), training, [f"case-{i}" for i in leaked]
