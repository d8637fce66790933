"""Suites scored on both sides, with a known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adapters.parity.comparison import Comparison, ComparisonRules, PairedScore, compare

PLANTED = "refund_flow"
"""The small segment among the eight."""
SIZES: Mapping[str, int] = {
    PLANTED: 47,
    **{f"flow_{number}": size for number, size in enumerate((165, 165, 165, 165, 165, 164, 164))},
}
"""1,200 cases in eight segments."""
QUICK = ComparisonRules(n_resamples=200)
"""For many simulated suites: with 0/1 scores the bootstrap is shown and decides nothing."""


def scored(
    changes: Mapping[str, Sequence[int]] | None = None, *, sizes: Mapping[str, int] = SIZES
) -> list[PairedScore]:
    """`changes[segment]` are (n_worse, n_better); every other case passes on both sides."""
    pairs = []
    for segment, size in sizes.items():
        n_worse, n_better = (changes or {}).get(segment, (0, 0))
        for index in range(size):
            before, after = 1.0, 1.0
            if index < n_worse:
                after = 0.0
            elif index < n_worse + n_better:
                before = 0.0
            pairs.append(PairedScore(f"{segment}-{index}", segment, before, after))
    return pairs


def simulated(
    seed: int,
    *,
    discordance: float,
    drop: Mapping[str, float] | None = None,
    sizes: Mapping[str, int] = SIZES,
) -> list[PairedScore]:
    """A suite drawn at random: `discordance` of the pairs differ, worse and better alike, but for
    `drop[segment]`, the true fall of the pass rate there."""
    generator = np.random.default_rng(seed)
    changes = {}
    for segment, size in sizes.items():
        fall = (drop or {}).get(segment, 0.0)
        both = max(discordance, fall)
        shares = [(both + fall) / 2, (both - fall) / 2, 1 - both]
        changes[segment] = [int(count) for count in generator.multinomial(size, shares)[:2]]
    return scored(changes, sizes=sizes)


def compared(pairs: Sequence[PairedScore], rules: ComparisonRules = QUICK) -> Comparison:
    """Compared under the names of the gate's serving comparison."""
    return compare(pairs, rules=rules, before_name="standalone", after_name="engine")
