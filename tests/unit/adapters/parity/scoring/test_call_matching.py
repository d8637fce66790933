from adapters.parity.scoring import ParsedCall
from adapters.parity.scoring.call_matching import match_calls
from tests.builders.scored_cases import gold_call


def matched(gold, *calls):
    return match_calls(gold, [ParsedCall(name, arguments) for name, arguments in calls], schemas={})


def test_calls_are_matched_in_any_order():
    gold = [gold_call("f", a=1), gold_call("g", b=2), gold_call("f", a=2)]

    match = matched(gold, ("f", {"a": 2}), ("f", {"a": 1}), ("g", {"b": 2}))

    assert all(score.is_exact for _, score in match.pairs)
    assert (len(match.pairs), match.missing, match.extra) == (3, (), ())


def test_an_answer_that_fits_two_golds_is_given_where_all_find_a_partner():
    either = {**gold_call("f", a=1), "alternatives": {"a": [2]}}

    match = matched([either, gold_call("f", a=1)], ("f", {"a": 1}), ("f", {"a": 2}))

    assert [score.is_exact for _, score in match.pairs] == [True, True]


def test_what_is_not_exact_goes_to_the_nearest_of_its_name():
    gold = [gold_call("f", a="one two"), gold_call("f", a="six seven")]

    match = matched(gold, ("f", {"a": "six eight"}), ("f", {"a": "one three"}))

    assert [score.f1 for _, score in match.pairs] == [0.5, 0.5]


def test_calls_of_another_name_are_missing_and_extra():
    match = matched([gold_call("f"), gold_call("f")], ("f", {}), ("g", {}))

    assert (match.missing, match.extra) == (("f",), ("g",))
    assert len(match.pairs) == 1
