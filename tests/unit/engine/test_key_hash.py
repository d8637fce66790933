"""The engine and the controller must recognise the same keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.contract import hash_key
from serving.engine.key_hash import KeyHash

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


@given(TEXT.filter(bool), st.lists(TEXT, min_size=1, max_size=3))
def test_a_key_has_the_hash_that_the_contract_says_however_many_were_asked_before(
    secret: str, keys: list[str]
) -> None:
    hashed = KeyHash(secret)

    assert [hashed.hexdigest(key) for key in keys] == [
        hash_key(key, cluster_secret=secret) for key in keys
    ]
