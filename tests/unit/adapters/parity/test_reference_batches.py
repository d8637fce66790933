"""How rows are put together: nothing lost, nothing too large, and never by their order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.reference_batches import Row, plan_groups

_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=40).map(tuple)


def row(tokens):
    return Row(tokens, len(tokens) - 1, (1,))


@given(st.lists(_tokens, max_size=30), st.integers(8, 200), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_every_row_is_read_once_whatever_order_they_come_in(lists, limit, order):
    rows = [row(item) for item in lists]
    groups = plan_groups(rows, max_tokens=limit)

    shuffled = list(rows)
    order.shuffle(shuffled)
    planned = [item for group in groups for batch in group.batches for item in batch]

    assert sorted(planned, key=lambda r: r.sort_key) == sorted(set(rows), key=lambda r: r.sort_key)
    assert plan_groups(shuffled, max_tokens=limit) == groups
    for group in groups:
        for batch in group.batches:
            n_left = [len(item.token_ids) - len(group.prefix) for item in batch]
            assert all(item.token_ids[: len(group.prefix)] == group.prefix for item in batch)
            assert min(n_left) >= 1
            assert len(batch) == 1 or len(batch) * max(n_left) <= limit


def test_a_beginning_that_all_rows_share_is_read_once():
    rows = [row((*range(100), 7, n)) for n in range(9)]

    (group,) = plan_groups(rows)

    assert group.prefix == (*range(100), 7)


def test_two_agents_in_one_suite_have_a_beginning_each():
    rows = [row((1, 2, *([agent] * 200), n, 5)) for agent in (3, 4) for n in range(9)]

    groups = plan_groups(rows)

    assert {len(group.prefix) for group in groups} == {202}
    assert [sum(map(len, group.batches)) for group in groups] == [9, 9]


def test_a_short_common_beginning_costs_no_pass_of_its_own():
    (group,) = plan_groups([row((1, 2, 3, n)) for n in range(9)])

    assert group.prefix == ()


def test_no_row_makes_no_group():
    assert plan_groups([]) == []
