"""What the report's page says, and what it leaves out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from adapters.parity.report_page import render_page
from adapters.parity.report_page.case_section import MOST_CASES
from tests.builders import gate_reports
from tests.builders.gate_report_parts import Story
from tests.builders.gate_reports import KINDS, report_of


class _Text(HTMLParser):
    """The page's text, block by block, with its style sheet left out."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.parts.append(data)


def shown(report: dict[str, Any]) -> str:
    reader = _Text()
    reader.feed(render_page(report))
    return re.sub(r"\s+", " ", "".join(reader.parts))


def section(report: dict[str, Any], anchor: str) -> str:
    page = render_page(report)
    found = re.search(rf'<section id="{anchor}".*?</section>', page, re.DOTALL)
    assert found is not None
    reader = _Text()
    reader.feed(found.group())
    return re.sub(r"\s+", " ", " ".join(reader.parts))


@pytest.mark.parametrize("kind", KINDS)
def test_verdict_version_and_reasons_come_first(kind: str) -> None:
    report = report_of(kind)

    text = shown(report)

    start = text[:1500]
    assert report["version"] in start
    assert report["verdict"] in start
    for reason in report["reasons"]:
        assert reason["text"] in start


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_no_other_file_and_no_script(kind: str) -> None:
    page = render_page(report_of(kind))

    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"<(script|link|img|iframe|object|embed|base|form)\b", page)
    assert not re.search(r"""\b(src|href|action)=["'](?!#)""", page)
    assert "url(" not in page
    assert "@import" not in page


def test_the_failing_segment_is_the_first_one_and_is_named_with_its_interval() -> None:
    report = report_of("failing_on_a_segment")
    serving = report["task"]["serving"]
    worst = next(row for row in serving["segments"] if row["segment"] == "refund_flow")
    low, high = worst["interval"]["low"], worst["interval"]["high"]

    text = section(report, "task")

    assert text.index("refund_flow") < text.index("order_status")
    assert f"{worst['delta'] * 100:+.1f}".replace("-", "\u2212") in text
    assert f"{low * 100:+.1f} to {high * 100:+.1f}".replace("-", "\u2212") in text
    assert f"{worst['n_worse']} / {worst['n_better']}" in text
    assert "regression" in text
    assert report["detectable"]["sentence"] in text


def test_a_small_segment_is_shown_as_of_low_confidence() -> None:
    text = section(report_of("failing_on_a_segment"), "task")

    row = text[text.index("vip_escalation") :]
    assert "low confidence" in row
    assert text.index("vip_escalation") > text.index("order_status")


def test_without_any_change_the_bound_is_given_and_no_interval() -> None:
    text = section(report_of("passing"), "task")

    row = text[text.index("refund_flow") :][:200]
    assert "no case changed" in row
    assert "at most" in row


def test_undefined_is_never_zero() -> None:
    report = report_of("inconclusive")
    report = {**report, "numeric": {**report["numeric"], "mean_delta_nats": None}}

    page = shown(report)

    assert "Mean |Δ logprob|, in natsundefined" in page
    assert "Recovery after a tool error undefined" in section(report, "scores")


def test_numeric_parity_alone_says_that_no_task_was_scored() -> None:
    report = report_of("numeric_only")

    text = section(report, "task")

    assert "no gold answers" in text
    assert "numeric parity only" in text
    assert 'id="scores"' not in render_page(report)


def test_excluded_cases_are_counted_against_the_whole_suite() -> None:
    text = section(report_of("passing"), "excluded")

    assert "Of 353 cases, 1 was left out" in text
    assert "order_status-0903" in text
    assert "0.28%" in text


def test_contamination_shows_how_much_hangs_on_the_threshold() -> None:
    text = section(report_of("contaminated"), "excluded")

    assert "6.13%" in text
    for limit in ("0.9", "0.8", "0.7", "0.6"):
        assert f" {limit} " in text
    assert "in force" in text


def test_without_a_training_set_contamination_is_unknown() -> None:
    assert "it is unknown whether training saw" in section(report_of("inconclusive"), "excluded")


def test_all_three_distributions_are_drawn_and_named() -> None:
    page = render_page(report_of("passing"))
    text = section(report_of("passing"), "numeric")

    for kind in ("floor", "candidate", "effect"):
        assert len(re.findall(rf'class="curve {kind}"', page)) == 3, "wide, narrow, legend"
    for name in ("Noise floor", "Candidate", "Adapter effect", "in nats", "near-ties up to 0.25"):
        assert name in text


def test_a_control_that_was_not_measured_is_said_to_be_so() -> None:
    report = report_of("passing")
    controls = {**report["controls"], "negative": None}

    text = section({**report, "controls": controls}, "controls")

    assert "Negative" in text
    assert "not measured" in text


def test_answers_stand_side_by_side_with_what_differs_marked() -> None:
    report = gate_reports.a_report(Story(segments={"a": 30}, n_divergences=0))
    report["divergences"] = [
        {
            "case_id": "a-1", "segment": "a", "repeat": 1, "position": 4, "margin_nats": 1.5,
            "is_near_tie": False, "engine_text": "pay 1000 now", "standalone_text": "pay 100 now",
            "engine_token_id": 15, "standalone_token_id": 7, "equality": "different",
        }
    ]  # fmt: skip

    page = render_page(report)

    assert '<span class="same">pay 100</span><mark>0</mark> now' in page
    assert '<span class="same">pay 100</span><mark class="gap"></mark> now' in page
    assert "At token 5 of repeat 2" in page
    assert "1.5 nats" in page


def test_real_divergences_come_before_near_ties() -> None:
    page = render_page(report_of("failing_on_a_segment"))

    words = re.findall(r'<span class="chip \w+">(real|near-tie)</span>', page)

    assert set(words) == {"real", "near-tie"}
    assert words == sorted(words, reverse=True)


def test_the_record_names_digests_seed_and_who_set_each_field() -> None:
    report = report_of("passing")

    text = section(report, "record")

    for value in (report["adapter_digest"], report["suite"]["digest"], report["base"]["revision"]):
        assert value in text
    assert re.search(r"segment_thresholds\.refund_flow\s+0\.85\s+adapter #1", text)
    assert re.search(r"margin\s+0\.01\s+tenant #2", text)
    assert "candidate" in text


def test_the_worst_segment_of_either_comparison_is_at_the_top() -> None:
    report = report_of("passing")
    live = report["task"]["live"]
    rows = [
        {**row, "delta": -0.5} if row["segment"] == "smalltalk" else row for row in live["segments"]
    ]
    task = {**report["task"], "live": {**live, "segments": rows}}

    text = shown({**report, "task": task})

    assert "engine minus acme/support@2, in points\u221250.0smalltalk" in text


def test_judges_are_shown_with_their_self_consistency_before_what_they_said() -> None:
    text = section(report_of("judged"), "judge")

    assert re.search(r"judge-b .*95\.0% of 40 pairs .*accepted", text)
    assert re.search(r"judge-c .*77\.5% of 40 pairs .*refused", text)
    assert text.index("judge-c") < text.index("Preferred: standalone")
    assert "not worse" in text
    assert "judge-a: after, judge-b: before" in text


def test_without_judges_the_page_says_that_none_was_asked() -> None:
    assert "No judge was asked" in section(report_of("passing"), "judge")


def test_the_whole_time_is_not_counted_as_a_stage() -> None:
    report = report_of("passing") | {"seconds_by_stage": {"candidate": 30.0, "total": 40.0}}

    text = section(report, "record")

    assert "Where 40 s went" in text
    assert "75%" in text
    assert "total" not in text[text.index("Where 40 s") : text.index("Policy")]


def test_a_report_that_was_given_up_shows_why_and_nothing_empty() -> None:
    page = render_page(report_of("given_up"))

    assert "no engine was ready within 600 s" in page
    assert "<section" not in page


def test_format_1_still_shows_its_divergences() -> None:
    text = section(report_of("of_format_1"), "divergences")

    assert "near-tie" in text
    assert "At token 4" in text
    assert "not generated" in text


def test_thousands_of_cases_with_long_texts_stay_a_small_page() -> None:
    story = Story(segments={"a": 4_000}, broken={"a": 900}, mended={"a": 900}, n_divergences=0)
    report = gate_reports.a_report(story)
    for row in (*report["divergences"], *report["cases"]):
        for name in ("engine_text", "standalone_text", "id", "case_id"):
            if name in row:
                row[name] = row[name] + "<&>" * 2_000
    report["reasons"] = [{"code": "x" * 500, "text": "y" * 50_000}] * 500

    page = render_page(report)

    assert len(page.encode()) < 3_000_000
    assert f"{MOST_CASES:,} of 4,000 cases are shown; the JSON report has the other 3,500." in page
    assert "of 1,800 divergences are shown" in page


def test_cases_that_got_worse_are_shown_first() -> None:
    report = gate_reports.a_report(
        Story(segments={"a": 900}, broken={"a": 1}, mended={"a": 5}, n_divergences=0)
    )

    text = section(report, "cases")

    assert text.index("a-0005") < text.index("a-0000")
