import pytest

from adapters.parity.scoring.normalise import canonical, normalise

NUMBER, INTEGER, BOOLEAN = {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
STRING, UNIT = {"type": "string"}, {"type": "string", "enum": ["Celsius", "Fahrenheit"]}


def same(one, other, schema=None):
    schema = schema or {}
    return canonical(normalise(one, schema)) == canonical(normalise(other, schema))


@pytest.mark.parametrize(
    ("one", "other", "schema"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {}),
        ({"a": 1, "b": None}, {"a": 1}, {}),
        (1, 1.0, {}),
        (0.0, -0.0, {}),
        ("1.50", 1.5, NUMBER),
        (" 1e3", 1000, INTEGER),
        ("7", 7, {"type": ["integer", "null"]}),
        ("7", 7, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("7", 7, {"type": "float"}),
        ("True", True, BOOLEAN),
        ("a  b\n", "a b", STRING),
        ("e\u0301", "é", STRING),
        ("celsius ", "Celsius", UNIT),
        ("March 4, 2025", "2025-03-04", STRING),
        ([1.0, " x "], [1, "x"], {}),
        (["7"], [7], {"type": "array", "items": INTEGER}),
        (["7", "8"], [7, "8"], {"type": "array", "prefixItems": [INTEGER]}),
        ({"n": "7"}, {"n": 7}, {"type": "object", "properties": {"n": INTEGER}}),
        ({"n": "7"}, {"n": 7}, {"type": "object", "additionalProperties": INTEGER}),
        (
            {"n": "7"},
            {"n": 7},
            {"properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": INTEGER}},
        ),
    ],
)
def test_two_forms_of_one_value_are_equal(one, other, schema):
    assert same(one, other, schema)


@pytest.mark.parametrize(
    ("one", "other", "schema"),
    [
        ("1", 1, {}),
        ("1", 1, STRING),
        ("1", 1, {"type": ["string", "integer"]}),
        ("1,000", 1000, NUMBER),
        (True, 1, {}),
        (True, 1, INTEGER),
        (1, True, BOOLEAN),
        ("true", True, STRING),
        ("Rome", "rome", STRING),
        ("ab", "AB", {"enum": ["Ab", "aB"]}),
        ("kelvin", "Kelvin", UNIT),
        ("a b", "ab", STRING),
        ("03/04/2025", "2025-03-04", STRING),
        ([1, 2], [2, 1], {}),
        ([None], [], {}),
        (0.1 + 0.2, 0.3, NUMBER),
        ({"a": {}}, {}, {}),
        ("null", None, STRING),
    ],
)
def test_different_values_stay_different(one, other, schema):
    assert not same(one, other, schema)


def test_an_enum_s_own_spelling_wins_over_the_form_of_dates():
    assert normalise("march 4, 2025", {"enum": ["March 4, 2025"]}) == "March 4, 2025"


def test_a_schema_that_points_to_itself_ends():
    loop = {"$ref": "#/$defs/L", "$defs": {"L": {"$ref": "#/$defs/L"}}}

    assert normalise({"a": ["1"]}, loop) == {"a": ["1"]}
