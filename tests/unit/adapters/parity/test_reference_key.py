from hypothesis import given
from hypothesis import strategies as st

from adapters.parity.reference_key import inputs_digest, reference_key

PARTS = {
    "base_revision": "sha256:b",
    "adapter_digest": "sha256:a",
    "suite_digest": "sha256:s",
    "dtype": "float32",
    "versions": {"torch": "2", "peft": "1"},
    "op": "verify",
}


def test_a_key_changes_with_everything_that_a_result_depends_on():
    others = [{**PARTS, name: "other"} for name in PARTS if name != "versions"]
    others += [
        {**PARTS, "versions": {"torch": "3", "peft": "1"}},
        {**PARTS, "adapter_digest": None},
    ]

    keys = {reference_key(**PARTS), *(reference_key(**item) for item in others)}

    assert len(keys) == len(others) + 1
    assert all(key.startswith("sha256:") for key in keys)


def test_the_order_of_versions_does_not_matter():
    turned = dict(reversed(PARTS["versions"].items()))

    assert reference_key(**{**PARTS, "versions": turned}) == reference_key(**PARTS)


lists = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=3)


@given(lists, lists)
def test_inputs_have_one_digest_only_where_they_are_equal(first, second):
    assert (inputs_digest("s", first) == inputs_digest("s", second)) == (first == second)
