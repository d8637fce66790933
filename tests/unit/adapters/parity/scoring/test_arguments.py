import pytest

from adapters.parity.scoring.arguments import (
    REQUIRED_WEIGHT,
    compare_arguments,
    compare_json,
    show_path,
    token_f1,
)
from tests.builders.scored_cases import gold_call

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["light rain", "heavy rain"]},
        "days": {"type": "integer"},
        "filter": {
            "type": "object",
            "properties": {"from": {"type": "string"}, "to": {"type": "string"}},
            "required": ["from"],
        },
    },
    "required": ["city", "filter"],
}


def compared(given, *, schema=SCHEMA, alternatives=None, optional=(), **gold):
    extra = {"alternatives": alternatives or {}, "optional": list(optional)}
    return compare_arguments({**gold_call(**gold), **extra}, given, schema)


def test_the_same_arguments_are_exact_and_full():
    score = compared({"days": "3", "city": " Rome"}, city="Rome", days=3)

    assert (score.is_exact, score.f1, score.n_fields, score.n_hallucinated) == (True, 1.0, 2, 0)
    assert score.wrong == ()


def test_no_arguments_on_either_side_agree():
    assert compared({}).f1 == 1.0


def test_a_required_field_weighs_double():
    without_city = compared({"days": 3}, city="Rome", days=3)
    without_days = compared({"city": "Rome"}, city="Rome", days=3)

    assert without_city.f1 == pytest.approx(1 / (1 + REQUIRED_WEIGHT))
    assert without_days.f1 == pytest.approx(REQUIRED_WEIGHT / (1 + REQUIRED_WEIGHT))
    assert without_city.wrong == ("city",)


def test_a_nested_field_weighs_double_where_every_level_requires_it():
    gold = {"filter": {"from": "a", "to": "b"}}

    assert compared({"filter": {"from": "a"}}, **gold).f1 == pytest.approx(2 / 3)
    assert compared({"filter": {"to": "b"}}, **gold).f1 == pytest.approx(1 / 3)


def test_a_hallucinated_field_counts_as_wrong_and_is_counted():
    score = compared({"city": "Rome", "days": 3}, city="Rome", days=None)

    assert (score.is_exact, score.n_fields, score.n_hallucinated) == (False, 2, 1)
    assert score.f1 == pytest.approx(2 / 3)
    assert score.wrong == ("days",)


def test_what_is_null_or_empty_is_not_hallucinated():
    assert compared({"city": "Rome", "days": None}, city="Rome").is_exact
    empty = compared({"city": "Rome", "tags": []}, city="Rome")
    assert (empty.is_exact, empty.n_hallucinated, empty.n_fields) == (False, 0, 1)


def test_a_filled_item_where_the_gold_s_is_null_is_hallucinated():
    score = compare_json({"rows": [None, 2]}, {"rows": [1, 2]})

    assert (score.n_hallucinated, score.n_fields, score.f1) == (1, 2, 0.5)
    assert score.wrong == ("rows[0]",)


def test_a_text_that_shares_words_has_part_of_the_credit():
    score = compared({"city": "New York"}, city="New York City")

    assert not score.is_exact
    assert score.f1 == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("argument", "gold", "given"),
    [("unit", "light rain", "heavy rain"), ("days", 3, 4), ("day", "2025-03-04", "March 5, 2025")],
)
def test_enums_numbers_and_dates_are_right_or_wrong(argument, gold, given):
    assert compared({argument: given}, **{argument: gold}).f1 == 0.0


def test_the_best_of_the_alternatives_counts():
    both = {"alternatives": {"city": ["NYC", "New York"]}, "city": "New York City"}

    assert compared({"city": "NYC"}, **both).is_exact
    assert compared({"city": "York"}, **both).f1 == pytest.approx(2 / 3)


def test_an_optional_argument_may_be_left_out_but_not_be_wrong():
    gold = {"optional": ["days"], "city": "Rome", "days": 3}

    assert compared({"city": "Rome"}, **gold).is_exact
    assert compared({"city": "Rome", "days": None}, **gold).is_exact
    wrong = compared({"city": "Rome", "days": 4}, **gold)
    assert (wrong.is_exact, wrong.n_hallucinated) == (False, 0)


def test_an_optional_argument_may_have_alternatives_alone():
    gold = {"optional": ["days"], "alternatives": {"days": [3, 4]}, "city": "Rome"}

    assert compared({"city": "Rome"}, **gold).is_exact
    assert compared({"city": "Rome", "days": 4}, **gold).is_exact
    assert not compared({"city": "Rome", "days": 5}, **gold).is_exact


def test_tokens_are_words_without_the_punctuation_at_their_ends():
    assert token_f1("Rome, Italy", "Italy Rome") == 1.0
    assert token_f1("a@b.example", "a@b.example.org") == 0.0
    assert token_f1("a a b", "a b b") == pytest.approx(2 / 3)
    assert token_f1("...", "...") == 1.0


def test_paths_are_shown_as_people_write_them():
    assert show_path(("rows", 0, "a b", "c")) == "rows[0]['a b'].c"
    assert show_path(()) == "answer"
