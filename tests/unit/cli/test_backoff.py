from hypothesis import given
from hypothesis import strategies as st

from serving.cli.supervisor import Backoff


def test_the_pause_doubles_from_the_first_one() -> None:
    assert [Backoff(first=1.0, longest=30.0).pause(n) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]


@given(st.integers(min_value=1, max_value=10_000))
def test_the_pause_is_never_longer_than_the_longest(n: int) -> None:
    assert 1.0 <= Backoff(first=1.0, longest=30.0).pause(n) <= 30.0
