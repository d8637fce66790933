"""Shape files are read strictly: what they say is what is drawn, and an error names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serving.tuning.arrival_processes import Bursts, Diurnal, Uniform
from serving.tuning.lengths import Between, Fixed, Lognormal
from serving.tuning.load_shape import ShapeSpec
from serving.tuning.shapes import BUILT_IN, ShapeInvalid, parse_shape, read_shape

DOCS = Path(__file__).resolve().parents[3] / "docs" / "load.md"


def shape(**changes: Any) -> dict[str, Any]:
    plain = {
        "requests": 10,
        "arrivals": {"process": "poisson", "rate": 2},
        "classes": [{"kind": "short", "prompt": 20, "output": 24}],
    }
    return {**plain, **changes}


def request(**changes: Any) -> dict[str, Any]:
    return shape(classes=[{"kind": "short", "prompt": 20, "output": 24, **changes}])


def test_the_example_of_the_page_is_read_as_it_says() -> None:
    text = DOCS.read_text().partition("A shape of your own is a YAML file:")[2]
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    document = yaml.safe_load("\n".join(lines[: lines.index("recorded:") - 2]))

    spec = parse_shape(document)

    assert spec.process == Bursts(4.0, 5.0, 15.0)
    short, lookup, long = spec.classes
    assert (short.prompt, short.output) == (Lognormal(120, 0.8, 1500), Between(16, 64))
    assert (short.weight, short.shared_prefix) == (3, 40)
    assert lookup.prompt == Fixed(60)
    assert long.every == 10
    assert (spec.adapters.number, spec.adapters.zipf) == (16, 1.0)


def test_the_page_names_each_built_in_shape() -> None:
    text = DOCS.read_text()

    assert [name for name in BUILT_IN if f"| `{name}` |" not in text] == []


def test_processes_have_fields_of_their_own() -> None:
    diurnal = {"process": "diurnal", "rate": 2, "period_seconds": 30, "swing": 1}

    assert parse_shape(shape(arrivals=diurnal)).process == Diurnal(2.0, 30.0, 1.0)
    assert parse_shape(shape(arrivals={"process": "uniform", "rate": 1})).process == Uniform(1.0)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (shape(clases=[]), "clases: is not a field; did you mean classes?"),
        (shape(arrivals={"process": "poison", "rate": 2}), "did you mean poisson?"),
        (shape(arrivals={"process": "poisson"}), "arrivals.rate: is missing"),
        (shape(arrivals={"process": "poisson", "rate": 0}), "arrivals.rate: 0 is not above 0"),
        (
            shape(arrivals={"process": "poisson", "rate": 1, "swing": 1}),
            "arrivals.swing: is not a field",
        ),
        (
            shape(arrivals={"process": "diurnal", "rate": 1, "swing": 2}),
            "arrivals.swing: 2 is more than 1",
        ),
        (shape(classes=[]), "classes: [] is not a list of classes"),
        (request(prompt=0), "classes[0].prompt: 0 is less than 1"),
        (request(prompt=True), "classes[0].prompt: True is not a whole number"),
        (request(prompt={"from": 9, "to": 8}), "classes[0].prompt.to: 8 is less than 9"),
        (request(output={"median": 5, "sigma": 1}), "classes[0].output.most: is missing"),
        (request(output={"median": 5, "sigma": 99, "most": 9}), "output.sigma: 99 is more than"),
        (request(kind="all"), "classes[0].kind: 'all' is the name of all classes together"),
        (request(every=10), "classes: all have `every`"),
        (request(every=10, weight=2), "classes[0].weight: and `every` exclude each other"),
        (request(weight=float("nan")), "classes[0].weight: nan is not a number"),
        (shape(classes=2 * request()["classes"]), "classes[1].kind: 'short' is there twice"),
        (shape(adapters={"number": 0}), "adapters.number: 0 is less than 1"),
        (shape(requests=10**9), "requests: about 1e+09 requests are more than 1,000,000"),
        (
            {k: v for k, v in shape(seconds=1e300).items() if k != "requests"},
            "seconds: about 2e+300",
        ),
        (shape(adapters=16), "adapters: 16 is not a mapping of number, zipf"),
        ({k: v for k, v in shape().items() if k != "requests"}, "and so is seconds"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_field(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeInvalid) as caught:
        parse_shape(document)

    assert said in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(["requests", "seconds", "arrivals", "classes", "adapters", "name"]), JSON)
def test_any_value_gives_a_spec_or_a_typed_error(field: str, value: Any) -> None:
    wrong = None
    try:
        spec = parse_shape(shape(**{field: value}))
    except ShapeInvalid as exc:
        wrong = exc

    assert wrong.field.startswith(field) if wrong else isinstance(spec, ShapeSpec)


def test_a_file_without_a_name_is_called_as_it_is_filed(tmp_path: Path) -> None:
    path = tmp_path / "evening.yaml"
    path.write_text(yaml.safe_dump(shape()))

    assert read_shape(str(path)).name == "evening"


def test_a_name_that_is_nearly_one_is_answered_with_it() -> None:
    with pytest.raises(ShapeInvalid, match="did you mean long-prefill"):
        read_shape("long-prefil")


@pytest.mark.parametrize(
    "content", ["", "- a list", "a: [", "\x00", "name: a\nname: b", "name: 2026-13-45"]
)
def test_a_file_that_is_no_mapping_is_an_error_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)

    with pytest.raises(ShapeInvalid, match=r"broken\.yaml"):
        read_shape(str(path))


def test_a_file_that_is_not_there_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ShapeInvalid, match=r"none\.yaml: No such file"):
        read_shape(str(tmp_path / "none.yaml"))
