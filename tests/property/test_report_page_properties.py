"""Whatever a report's texts and values are, its page keeps its form."""

from __future__ import annotations

import copy
import functools
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.report_page import render_page
from adapters.parity.report_page.markup import clip, element, escape
from tests.builders import gate_reports
from tests.builders.gate_report_parts import Story, judge_of

ATTACKS = (
    "<script>alert(1)</script>", "</style><script>alert(1)</script>", "</title><img src=x>",
    '"><svg onload=alert(1)>', "' onmouseover='alert(1)", "<!--", "]]>", "&lt;b&gt;", "&#60;b&#62;",
    "</section></main>", "\ud800", "\u202egnp.exe", "\x00<b>", "javascript:alert(1)",
)  # fmt: skip
hostile = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(min_size=1, max_size=40),
    st.builds(
        "".join, st.lists(st.sampled_from(["<", ">", '"', "'", "&", "/", "a", "="]), min_size=1)
    ),
)
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10),
        st.just(10**400),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@functools.cache
def small_report() -> dict[str, Any]:
    story = Story(
        segments={"one": 21, "two": 2},
        broken={"one": 2},
        n_divergences=3,
        reasons=[("a", "b")],
        notes=[("c", "d")],
        contamination=gate_reports.contamination_of({"one-0001": 0.8}, 30),
    )
    report = gate_reports.a_report(story)
    report["cases"] = report["cases"][:4]
    return report | {"judge": judge_of("one").to_json()}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def form_of(page: str) -> list[tuple[str, tuple[str, ...]]]:
    reader = _Tags()
    reader.feed(page)
    reader.close()
    return reader.found


def with_texts(value: Any, text: str, *, key: str = "") -> Any:
    """The report with each text of others replaced: ids, segments, answers, names, keys."""
    if isinstance(value, dict):
        kept = {"seconds_by_stage", "versions", "policy_sources", "judge"}
        return {
            (text if key in kept and len(value) == 1 else name): with_texts(item, text, key=name)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [with_texts(item, text, key=key) for item in value]
    return text if isinstance(value, str) else value


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(path for key, item in inner for path in paths(item, (*at, key)))]


@functools.cache
def harmless_form() -> list[tuple[str, tuple[str, ...]]]:
    return form_of(render_page(with_texts(small_report(), "harmless")))


@given(text=hostile)
@settings(max_examples=40)
def test_no_text_of_a_report_changes_the_form_of_its_page(text: str) -> None:
    page = render_page(with_texts(small_report(), text))

    assert form_of(page) == harmless_form()
    page.encode()


@given(data=st.data(), value=json_values)
@settings(max_examples=80)
def test_no_value_anywhere_in_a_report_stops_the_page(data: Any, value: Any) -> None:
    report = copy.deepcopy(small_report())
    *outer, last = data.draw(st.sampled_from(paths(report)[1:]))
    target = report
    for key in outer:
        target = target[key]
    target[last] = value

    page = render_page(report)

    page.encode()
    assert page.count("<h1>") == 1


@given(text=st.text())
def test_escaped_text_reads_back_and_holds_no_markup(text: str) -> None:
    escaped = escape(text)

    assert not set(escaped) & set("<>\"'")
    assert element("p", text) == f"<p>{escaped}</p>"
    assert element("p", title=text) == f'<p title="{escaped}"></p>'


@given(text=st.text(), limit=st.integers(0, 50))
def test_a_clipped_text_says_how_much_is_gone(text: str, limit: int) -> None:
    clipped = clip(text, limit)

    assert clipped.startswith(text[:limit])
    assert (clipped == text) == (len(text) <= limit)
