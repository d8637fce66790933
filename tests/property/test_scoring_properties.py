"""What holds of scores and normalisation whatever the gold and the answer are."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from adapters.parity.scoring import AnswerEquality, ParsedCall, compare_answers, score_answer
from adapters.parity.scoring.arguments import compare_arguments, compare_json
from adapters.parity.scoring.call_matching import match_calls
from adapters.parity.scoring.dates import iso_date
from adapters.parity.scoring.normalise import canonical, normalise
from tests.builders.scored_cases import calls_case, written

TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", " ", "1", "1.50", "-0", "1e400", "true", "FALSE", "Celsius", "celsius", "null"),
            *("March 4, 2025", "03/04/2025", "2025-03-04T10:00+02:00", "a  b", "e\u0301", "\u212b"),
        ]
    ),
    st.text(max_size=6),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(["city", "days", "unit", "x", "a b"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["string", "number", "integer", "boolean", "object", "array", "any", "null"]
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": KINDS | st.lists(KINDS, max_size=2),
            "enum": st.lists(TEXTS, max_size=3),
            "$ref": st.just("#/$defs/N"),
            "$defs": st.just({"N": {"type": "number"}}),
        },
    ),
    lambda inner: (
        st.fixed_dictionaries(
            {"properties": st.dictionaries(KEYS, inner, max_size=3)},
            optional={"items": inner, "additionalProperties": inner, "required": st.lists(KEYS)},
        )
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
    ),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)
FINITE = ARGUMENTS.filter(lambda value: "Infinity" not in json.dumps(value))


@given(VALUES, SCHEMAS)
def test_normalising_twice_is_normalising_once(value, schema):
    once = normalise(value, schema)

    assert canonical(normalise(once, schema)) == canonical(once)


@given(st.dates(), st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%B %d, %Y", "%d %b %Y", "%d-%B-%Y"]))
def test_a_day_is_read_back_from_every_form(day, form):
    text = day.strftime(form)

    # Years before 1000 are printed with fewer digits; those are not read.
    assert iso_date(text) == (day.isoformat() if day.year >= 1000 else iso_date(text))


@given(ARGUMENTS, ARGUMENTS, SCHEMAS)
def test_f1_is_a_fraction_and_full_for_what_is_exact(gold, given_arguments, schema):
    score = compare_arguments({"arguments": gold}, given_arguments, schema)

    assert 0.0 <= score.f1 <= 1.0
    assert 0 <= score.n_hallucinated <= score.n_fields
    assert score.is_exact == (score.wrong == ())
    if score.is_exact:
        assert (score.f1, score.n_hallucinated) == (1.0, 0)


@given(VALUES)
def test_a_value_is_exactly_itself(value):
    score = compare_json(value, json.loads(json.dumps(value)))

    assert (score.is_exact, score.f1, score.n_hallucinated) == (True, 1.0, 0)


@given(st.lists(FINITE, max_size=3), st.randoms(use_true_random=False))
def test_the_gold_itself_passes_in_every_order(many, shuffle):
    gold = [{"name": "get_weather", "arguments": arguments} for arguments in many]
    answered = list(gold)
    shuffle.shuffle(answered)

    score = score_answer(calls_case(*gold), written(*answered))

    assert (score.is_pass, score.score, score.trajectory_delta) == (True, 1.0, 0)
    equality = compare_answers(calls_case(), written(*gold), written(*answered))
    assert equality is not AnswerEquality.DIFFERENT


@given(
    st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=5),
    st.lists(st.integers(0, 4), max_size=5),
)
def test_as_many_calls_are_matched_exactly_as_any_assignment_can(allowed, made):
    gold = [
        {"name": "f", "arguments": {"a": first}, "alternatives": {"a": others}}
        for first, *others in map(sorted, allowed)
    ]

    match = match_calls(gold, [ParsedCall("f", {"a": value}) for value in made], schemas={})

    size = max(len(allowed), len(made))
    rows = [*allowed, *[set()] * (size - len(allowed))]
    columns = [*made, *[-1] * (size - len(made))]
    best = max(
        sum(value in row for row, value in zip(rows, order, strict=True))
        for order in itertools.permutations(columns)
    )
    assert sum(score.is_exact for _, score in match.pairs) == best
    assert len(match.pairs) == min(len(allowed), len(made))


@given(st.text(max_size=30), st.text(max_size=30))
def test_level_2_is_symmetric(first, second):
    case = calls_case()

    assert compare_answers(case, first, second) == compare_answers(case, second, first)
