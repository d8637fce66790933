"""Versions that a tenant uses in the same bursts belong together."""

from __future__ import annotations

from serving.capacity.companions import Bursts


def used_in_bursts(*bursts: list[str]) -> Bursts:
    """Each list is one burst; ten minutes lie between two of them."""
    kept = Bursts()
    for number, names in enumerate(bursts):
        for second, name in enumerate(names):
            kept.used(name, 600.0 * number + second)
    return kept


def test_versions_of_most_finished_bursts_are_together() -> None:
    bursts = used_in_bursts(["a/x@1", "a/y@1"], ["a/x@1", "a/y@1", "a/z@1"], ["a/x@1"], ["a/x@1"])

    assert bursts.together(min_share=0.5, min_bursts=2) == {"a": ("a/x@1", "a/y@1")}


def test_a_burst_that_goes_on_does_not_count_yet() -> None:
    bursts = used_in_bursts(["a/x@1", "a/y@1"], ["a/x@1", "a/y@1"])

    assert bursts.together(min_share=0.5, min_bursts=2) == {}


def test_a_tenant_with_one_version_has_no_companions() -> None:
    bursts = used_in_bursts(["a/x@1", "b/x@1"], ["a/x@1"], ["a/x@1"])

    assert bursts.together(min_share=0.5, min_bursts=1) == {}


def test_only_the_last_bursts_count() -> None:
    old = [["a/x@1", "a/y@1"]] * 3
    new = [["a/x@2", "a/y@2"]] * 9

    bursts = used_in_bursts(*old, *new)

    assert bursts.together(min_share=0.5, min_bursts=2) == {"a": ("a/x@2", "a/y@2")}


def test_a_forgotten_version_is_nobodys_companion() -> None:
    bursts = used_in_bursts(*[["a/x@1", "a/y@1", "a/z@1"]] * 4)

    bursts.forget("a/y@1")
    bursts.forget("unknown/x@1")

    assert bursts.together(min_share=0.5, min_bursts=2) == {"a": ("a/x@1", "a/z@1")}


def test_the_tenant_unused_for_longest_is_forgotten_first() -> None:
    bursts = Bursts()

    for index in range(10_050):
        bursts.used(f"t{index}/x@1", float(index))

    assert len(bursts._tenants) == 10_000
    assert "t49" not in bursts._tenants
    assert "t50" in bursts._tenants
