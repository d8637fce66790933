"""How often intervals hold the truth, in 2,000 simulated suites a row. Seeds are fixed."""

from functools import cache

import numpy as np
import pytest

from adapters.parity.discordance import score_interval
from adapters.parity.resampling import paired_bootstrap

N_RUNS = 2000


def score(n_worse, n_better, n):
    return score_interval(n_worse, n_better, n, confidence=0.95)


def bootstrap(n_worse, n_better, n):
    values = np.repeat([-1.0, 1.0, 0.0], [n_worse, n_better, n - n_worse - n_better])
    return paired_bootstrap(values, seed=n_worse, confidence=0.95, n_resamples=2000)


def coverage(method, n, *, discordance, drop):
    """(share of defined intervals that hold the truth, share that are defined)."""
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    draws = np.random.default_rng(1).multinomial(n, shares, size=N_RUNS)[:, :2]
    kept = cache(method)
    intervals = [kept(int(b), int(c), n) for b, c in draws]
    held = [low <= -drop <= high for low, high in filter(None, intervals)]
    return np.mean(held), len(held) / N_RUNS


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9], ids=lambda share: f"drop={share}")
@pytest.mark.parametrize(
    ("n", "discordance"),
    [(47, 0.2), (200, 0.05), (200, 0.1), (200, 0.2)]
    + [(1200, share) for share in (0.02, 0.05, 0.1, 0.2)],
)
def test_the_score_interval_covers_93_to_97_percent(n, discordance, drop):
    held, defined = coverage(score, n, discordance=discordance, drop=drop * discordance)

    assert 0.93 <= held <= 0.97
    assert defined == 1.0


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9], ids=lambda share: f"drop={share}")
@pytest.mark.parametrize(("n", "discordance"), [(47, 0.02), (47, 0.05), (47, 0.1), (200, 0.02)])
def test_with_under_nine_discordant_pairs_expected_the_score_interval_is_cautious(
    n, discordance, drop
):
    held, _ = coverage(score, n, discordance=discordance, drop=drop * discordance)

    assert held >= 0.95


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9], ids=lambda share: f"drop={share}")
@pytest.mark.parametrize(("n", "discordance"), [(200, 0.1), (200, 0.2), (1200, 0.02)])
def test_the_bootstrap_covers_93_to_97_percent_where_twenty_pairs_differ(n, discordance, drop):
    held, defined = coverage(bootstrap, n, discordance=discordance, drop=drop * discordance)

    assert 0.93 <= held <= 0.97
    assert defined > 0.999


@pytest.mark.parametrize("drop", [0.0, 0.9], ids=lambda share: f"drop={share}")
@pytest.mark.parametrize(("n", "discordance"), [(47, 0.02), (47, 0.05), (47, 0.2), (200, 0.02)])
def test_with_few_pairs_that_differ_the_bootstrap_is_cautious_or_undefined(n, discordance, drop):
    held, defined = coverage(bootstrap, n, discordance=discordance, drop=drop * discordance)

    assert held >= 0.95
    assert defined < 0.5 or n * discordance > 3


def dense(generator, n):
    return generator.beta(5, 2, size=n) - generator.beta(5, 2, size=n), 0.0


def thirds(generator, n):
    """Means of three repeats: 30 % of the cases differ, mostly down."""
    sizes = generator.integers(1, 4, size=n) / 3
    signs = np.where(generator.random(n) < 0.7, -1, 1)
    return np.where(generator.random(n) < 0.3, sizes * signs, 0.0), 0.3 * (2 / 3) * -0.4


@pytest.mark.parametrize(("draw", "n"), [(dense, 47), (dense, 200), (thirds, 47)])
def test_the_bootstrap_of_scores_covers_93_to_97_percent(draw, n):
    generator = np.random.default_rng(2)
    held = []
    for _ in range(N_RUNS):
        values, truth = draw(generator, n)
        low, high = paired_bootstrap(values, seed=7, confidence=0.95, n_resamples=400)
        held.append(low <= truth <= high)

    assert 0.93 <= np.mean(held) <= 0.97
