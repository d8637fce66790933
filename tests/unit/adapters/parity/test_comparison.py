import json
from dataclasses import replace

import numpy as np
import pytest

from adapters.parity.comparison import ComparisonRules, PairedScore, compare, detectable_sentence
from adapters.parity.discordance import mcnemar_p, score_interval, worse_p
from adapters.parity.proportions import clopper_pearson_interval, clopper_pearson_upper
from tests.builders.paired_scores import PLANTED, QUICK, SIZES, compared, scored, simulated

ONE_SEGMENT = {"default": 200}


def segment(comparison, name):
    return next(item for item in comparison.segments if item.segment == name)


def names(items):
    return [item.segment for item in items]


def test_a_segment_made_worse_is_found_and_named_although_the_total_is_unchanged():
    pairs = scored({PLANTED: (12, 1), "flow_0": (0, 4), "flow_3": (0, 4), "flow_5": (0, 3)})

    comparison = compared(pairs)

    assert len(pairs) == 1200
    assert comparison.total.delta == 0.0
    assert comparison.total.is_regression is False
    assert names(comparison.regressions) == [PLANTED]
    assert comparison.worst.segment == PLANTED
    assert comparison.is_regression is True


def test_a_planted_drop_is_found_as_often_as_its_power_says():
    drop = {PLANTED: 0.3}
    found = [
        names(compared(simulated(seed, discordance=0.02, drop=drop)).regressions)
        for seed in range(60)
    ]

    # 0.3 of 47 cases is 14 of them; nine or more without a better one are needed among nine tests.
    assert sum(PLANTED in item for item in found) >= 54
    assert sum(bool(set(item) - {PLANTED, "total"}) for item in found) <= 3


def test_noise_is_not_called_a_regression_more_often_than_stated():
    blocked = [
        compared(simulated(seed, discordance=0.04)).is_regression is True for seed in range(100)
    ]

    # At most 2.5 %: more than 7 of 100 would happen in less than one seed of a hundred.
    assert compared(scored()).false_block_rate == pytest.approx(0.025)
    assert sum(blocked) <= 7


def test_each_row_says_what_the_statistics_say_of_its_own_pairs():
    comparison = compared(scored({PLANTED: (6, 2)}))
    item = segment(comparison, PLANTED)

    assert (item.n, item.n_worse, item.n_better) == (47, 6, 2)
    assert item.before_rate == pytest.approx(45 / 47)
    assert item.after_rate == pytest.approx(41 / 47)
    assert item.delta == pytest.approx(-4 / 47)
    assert item.interval == score_interval(6, 2, 47, confidence=0.95)
    assert item.interval_method == "score"
    assert item.mcnemar_p == mcnemar_p(6, 2)
    assert item.worse_p == worse_p(6, 2)
    assert item.holm_p == min(1.0, 9 * worse_p(6, 2))
    assert item.discordance_upper == clopper_pearson_upper(8, 47, confidence=0.95)
    assert item.after_interval == clopper_pearson_interval(41, 47, confidence=0.95)
    assert item.bootstrap.low < item.delta < item.bootstrap.high
    # The total has the same discordant pairs; both are in the family of nine tests.
    assert comparison.n_tests == 9
    assert comparison.total.worse_p == item.worse_p


def test_a_suite_without_a_difference_gets_the_exact_bound_and_no_interval():
    comparison = compared(scored())

    total = comparison.total
    assert total.delta == 0.0
    assert total.interval is None
    assert total.bootstrap is None
    assert total.mcnemar_p == 1.0
    assert total.discordance_upper == pytest.approx(1 - 0.05 ** (1 / 1200))
    assert total.minimum_detectable_effect == total.discordance_upper
    assert comparison.is_regression is False


def test_a_small_segment_is_shown_and_not_gated():
    sizes = {"big": 180, "small": 19}
    comparison = compared(scored({"small": (19, 0)}, sizes=sizes))

    item = segment(comparison, "small")
    assert item.delta == -1.0
    assert item.is_above_margin is True
    assert item.is_gated is False
    assert item.is_regression is None
    assert item.holm_p is None
    assert item.interval is not None
    assert comparison.n_tests == 2


def test_a_total_of_too_few_cases_is_undefined():
    comparison = compared(scored(sizes={"a": 25, "b": 24}))

    assert comparison.total.is_regression is None
    assert comparison.is_regression is None
    assert comparison.n_tests == 2


def test_no_case_at_all_is_undefined_and_not_zero():
    comparison = compared([])

    assert comparison.is_regression is None
    assert comparison.total.delta is None
    assert comparison.total.minimum_detectable_effect is None
    assert comparison.total.mcnemar_p is None
    assert comparison.segments == ()
    assert comparison.worst is None
    assert comparison.false_block_rate == 0.0
    assert "too small to rule out any regression" in detectable_sentence(comparison)


def test_a_suite_of_one_segment_is_tested_once():
    comparison = compared(scored({"default": (7, 0)}, sizes=ONE_SEGMENT))

    assert comparison.n_tests == 1
    assert comparison.total.holm_p == worse_p(7, 0) == comparison.segments[0].holm_p
    assert names(comparison.regressions) == ["total"]


def test_many_segments_ask_for_more_evidence():
    alone = compared(scored({"default": (7, 0)}, sizes=ONE_SEGMENT))
    among = compared(
        scored({"default": (7, 0)}, sizes=ONE_SEGMENT | {f"s{i}": 50 for i in range(9)})
    )

    assert alone.is_regression is True
    assert segment(among, "default").holm_p > among.false_block_rate
    assert among.is_regression is False
    assert "default" in names(among.unproven)


def test_a_proven_drop_within_the_margin_is_no_regression():
    pairs = scored({"default": (30, 2)}, sizes={"default": 4000})

    within = compared(pairs, replace(QUICK, margin=0.008))
    beyond = compared(pairs, replace(QUICK, margin=0.005))
    exactly = compared(pairs, replace(QUICK, margin=0.007))

    assert within.total.is_above_margin is False
    assert within.is_regression is False
    assert exactly.is_regression is False
    assert beyond.is_regression is True


def test_a_drop_beyond_the_margin_that_may_be_chance_is_unproven():
    comparison = compared(scored({"default": (4, 0)}, sizes=ONE_SEGMENT))

    assert comparison.total.is_above_margin is True
    assert comparison.is_regression is False
    assert names(comparison.unproven) == ["total"]


def test_thresholds_are_absolute_and_judge_gated_segments_only():
    limits = {"weak": 0.9, "fine": 0.9, "tiny": 0.9, "exact": 0.85, "unknown": 0.5}
    sizes = {"weak": 40, "fine": 40, "tiny": 5, "exact": 20, "other": 40}
    pairs = scored({"weak": (6, 0), "tiny": (5, 0), "exact": (3, 0)}, sizes=sizes)

    comparison = compared(pairs, replace(QUICK, segment_thresholds=limits))

    below = {item.segment: item.is_below_threshold for item in comparison.segments}
    assert below == {"weak": True, "fine": False, "tiny": None, "exact": False, "other": None}
    assert names(comparison.below_threshold) == ["weak"]
    # 34 of 40 may well be chance around 0.9.
    assert segment(comparison, "weak").is_threshold_in_reach is True
    assert comparison.unknown_thresholds == ("unknown",)


def test_a_threshold_far_above_the_rate_is_out_of_reach():
    rules = replace(QUICK, segment_thresholds={"a": 0.95})
    comparison = compared(scored({"a": (20, 0)}, sizes={"a": 40, "b": 40}), rules)

    assert segment(comparison, "a").is_threshold_in_reach is False


def test_scores_between_0_and_1_are_compared_by_resampling():
    generator = np.random.default_rng(5)
    pairs = [
        PairedScore(str(i), "worse" if i < 60 else f"s{i % 3}", 0.9, score)
        for i, score in enumerate(generator.uniform(0.85, 0.95, size=400))
    ]
    pairs = [replace(p, after=p.after - 0.2) if p.segment == "worse" else p for p in pairs]

    comparison = compared(pairs, ComparisonRules())

    item = segment(comparison, "worse")
    assert not comparison.is_binary
    assert item.interval_method == "bootstrap"
    assert item.interval == item.bootstrap
    assert item.after_interval is None
    assert item.minimum_detectable_effect < 0.05
    assert names(comparison.regressions) == ["total", "worse"]


def test_every_score_lower_by_the_same_amount_is_a_regression_without_an_interval():
    pairs = [PairedScore(str(i), "a", 0.75, 0.5) for i in range(60)]

    comparison = compared(pairs)

    assert comparison.total.interval is None
    assert comparison.is_regression is True


def test_another_segment_does_not_change_a_segments_own_numbers():
    few = compared(scored({PLANTED: (9, 1)}))
    more = compared(scored({PLANTED: (9, 1)}, sizes=SIZES | {"new": 80}))

    first, second = segment(few, PLANTED), segment(more, PLANTED)
    same = ("delta", "interval", "bootstrap", "mcnemar_p", "worse_p", "discordance_upper")
    assert [getattr(first, key) for key in same] == [getattr(second, key) for key in same]
    assert second.holm_p > first.holm_p


def test_a_case_twice_or_a_score_out_of_range_is_refused():
    twice = [PairedScore("a", "s", 1.0, 1.0)] * 2
    with pytest.raises(ValueError, match="a is scored twice"):
        compare(twice, rules=QUICK, before_name="b", after_name="a")
    for score in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            compared([PairedScore("a", "s", 1.0, score)])


@pytest.mark.parametrize("values", [{"confidence": 1.0}, {"margin": -0.1}, {"margin": 1.0}])
def test_rules_that_cannot_be_are_refused(values):
    with pytest.raises(ValueError, match="lies between"):
        ComparisonRules(**values)


@pytest.mark.parametrize("pairs", [[], scored({PLANTED: (6, 2)})], ids=["empty", "planted"])
def test_the_record_is_complete_and_plain_json(pairs):
    comparison = compared(pairs)

    record = json.loads(json.dumps(comparison.to_json(), allow_nan=False))

    assert record["rules"]["segment_thresholds"] == {}
    assert record["total"]["segment"] == "total"
    assert set(record["total"]) == set(comparison.total.__slots__)
    assert [row["segment"] for row in record["segments"]] == sorted(SIZES if pairs else [])
    assert record["detectable"] == detectable_sentence(comparison)
    if pairs:
        low, high = segment(comparison, PLANTED).interval
        assert record["segments"][-1]["interval"] == {"low": low, "high": high}


def test_the_sentence_names_the_weakest_gated_segment():
    comparison = compared(scored({PLANTED: (3, 3), "flow_1": (2, 2)}, sizes=SIZES | {"tiny": 3}))

    sentence = detectable_sentence(comparison)

    assert sentence.startswith("This suite can rule out a regression above 0.95 points in total (")
    assert f"in segment {PLANTED})" in sentence
    assert "80 % probability at 95 % confidence" in sentence


def test_the_sentence_of_a_suite_without_a_difference_says_so():
    comparison = compared(scored(sizes={"default": 1200}))

    assert detectable_sentence(comparison) == (
        "This suite can rule out a regression above 0.25 points in total, "
        "at 95 % confidence: no case scored differently."
    )
