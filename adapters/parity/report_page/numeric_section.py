"""Numeric parity: the distributions against both controls, the controls, and each segment. Pure."""

from __future__ import annotations

from adapters.parity.report_page import notation
from adapters.parity.report_page.curves import Curve, Rule, draw_curves, draw_swatch
from adapters.parity.report_page.markup import Html, clip, element
from adapters.parity.report_page.reading import Json, items, mapping, number, rows, text
from adapters.parity.report_page.tables import Column, section, table

_KINDS = (
    ("negative", "floor", "Noise floor: the base model, engine against standalone"),
    ("candidate", "candidate", "Candidate: this version, engine against standalone"),
    ("positive", "effect", "Adapter effect: standalone with the adapter against without"),
)
_MOST_SEGMENTS = 200


def render_numeric(report: Json) -> Html:
    """The plot, what it says in numbers, and the same by segment."""
    lead = (
        "How far the engine's log-probability of each token is from the standalone model's. "
        "A faithful candidate lies in the noise floor and far from the adapter's own effect."
    )
    curves = read_curves(mapping(report, "distributions"))
    drawn = _figure(curves, report) if curves else _no_figure()
    return section("numeric", "Numeric parity", drawn, _by_segment(report), lead=lead)


def read_curves(distributions: Json) -> list[Curve]:
    """The curves that can be drawn; values that are no finite number of nats are left out."""
    probabilities = items(distributions, "probabilities")
    curves = []
    for key, kind, label in _KINDS:
        pairs = [
            (p, q)
            for raw_p, raw_q in zip(probabilities, items(distributions, key), strict=False)
            if (p := number(raw_p)) is not None
            and (q := number(raw_q)) is not None
            and 0.0 <= p <= 1.0
            and q >= 0.0
        ][:1_001]
        if len(pairs) > 1:
            curves.append(Curve(kind, label, [p for p, _ in pairs], [q for _, q in pairs]))
    return curves


def _no_figure() -> Html:
    return element("p", "This report keeps no distributions to draw.", class_="caution")


def _figure(curves: list[Curve], report: Json) -> Html:
    rules = _rules(mapping(report, "resolution"), text(report, "base", "dtype"))
    title = "; ".join(_sentence(curve) for curve in curves)
    # Two sizes of one drawing: text that is scaled with the screen is not readable on both.
    drawings = [
        element("div", draw_curves(curves, rules, width=w, height=h, title=title), class_=name)
        for name, w, h in (("wide", 880.0, 400.0), ("narrow", 358.0, 330.0))
    ]
    legend = [element("li", draw_swatch(curve.kind), curve.label) for curve in curves]
    return element(
        "figure",
        element("ul", *legend, class_="legend"),
        *drawings,
        _quantile_table(curves),
    )


def _rules(resolution: Json, dtype: str | None) -> list[Rule]:
    name = clip(dtype or "this number type", 20)
    given = (
        ("tie_margin_nats", "near-ties up to"),
        ("mean_delta_nats", f"{name} resolves"),
    )
    return [
        Rule(value, f"{label} {notation.significant(value)}")
        for key, label in given
        if (value := number(resolution, key)) is not None and value > 0
    ]


def _sentence(curve: Curve) -> str:
    half, most = notation.nats(curve.at(0.5)), notation.nats(curve.at(0.99))
    return f"{curve.label}: half of the tokens within {half or notation.UNDEFINED}, " + (
        f"99% within {most or notation.UNDEFINED}"
    )


def _quantile_table(curves: list[Curve]) -> Html:
    titles = {0.5: "Median", 0.9: "90%", 0.99: "99%", 1.0: "Largest"}
    columns = [Column("In nats"), *(Column(title, "number") for title in titles.values())]
    lines = [
        (
            curve.label.partition(":")[0],
            *(notation.shown(notation.significant(curve.at(p))) for p in titles),
        )
        for curve in curves
    ]
    return table("Quantiles of the difference of a token, in nats", columns, lines)


def _by_segment(report: Json) -> Html | None:
    segments = rows(report, "segments")
    total = {
        "segment": "all segments",
        "n": number(report, "suite", "n_cases"),
        "numeric": mapping(report, "numeric"),
        "answer": mapping(report, "answer"),
    }
    if not mapping(report, "numeric"):
        return None
    columns = [
        Column("Segment"),
        Column("Cases", "number"),
        Column("Tokens", "number"),
        Column("Tokens equal", "number"),
        Column("Mean |Δ|, nats", "number"),
        Column("Largest |Δ|, nats", "number"),
        Column("Real divergences", "number", "beyond what a near-tie explains"),
        Column("Same answer", "number", "exactly the standalone model's text"),
        Column("Equivalent", "number", "the same after normalisation"),
        Column("Different", "number"),
    ]
    shown = segments[:_MOST_SEGMENTS]
    lines = [_segment_line(row) for row in [total, *shown]]
    classes = ["total", *[""] * len(shown)]
    inner = table("Numbers by segment", columns, lines, row_classes=classes)
    left_out = len(segments) - len(shown)
    note = f"{left_out:,} more segments are in the JSON report." if left_out > 0 else None
    return element("div", element("h3", "By segment"), inner, note and element("p", note))


def _segment_line(row: Json) -> tuple[str, ...]:
    numeric, answer = mapping(row, "numeric"), mapping(row, "answer")
    counts = [
        notation.shown(notation.count(number(answer, key)))
        for key in ("n_exact", "n_equivalent", "n_different")
    ]
    return (
        clip(text(row, "segment") or "unnamed", 80),
        notation.shown(notation.count(number(row, "n"))),
        notation.shown(notation.count(number(numeric, "n_tokens"))),
        notation.shown(notation.percent(number(numeric, "token_agreement"), 2)),
        notation.shown(notation.significant(number(numeric, "mean_delta_nats"))),
        notation.shown(notation.significant(number(numeric, "max_delta_nats"))),
        notation.shown(notation.count(number(numeric, "n_real_divergences"))),
        *counts,
    )
