"""The top of the page: verdict, reasons, what vouches for the files, and four figures. Pure."""

from __future__ import annotations

import math

from adapters.parity.report_page import notation
from adapters.parity.report_page.comparison_section import bounds_text
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, interval, items, mapping, number, rows, text
from adapters.parity.report_page.tables import code, facts

_LONGEST_TEXT = 2_000
_MOST_REASONS = 100
_MEANING = {
    "PASS": "On the engine it behaves like its standalone model, as far as this suite can see.",
    "FAIL": "There is evidence against it. It takes no traffic.",
    "INCONCLUSIVE": "Neither proven nor refuted. "
    "It takes no traffic unless its policy or a person decides so.",
}
_SIGN = {
    "PASS": "M6 12.5L10.5 17L18 7.5",
    "FAIL": "M7 7L17 17M17 7L7 17",
    "INCONCLUSIVE": "M8.5 9.2C8.5 4.9 15.5 4.9 15.5 9.2C15.5 12 12 11.8 12 14.4M12 18.2V18.4",
}


def verdict_of(report: Json) -> str:
    """The verdict's word; "UNKNOWN" for none of the three."""
    word = text(report, "verdict") or ""
    return word if word in _MEANING else "UNKNOWN"


def render_summary(report: Json) -> Html:
    """Everything that a person reads who reads nothing else."""
    word = verdict_of(report)
    return element(
        "header",
        element("p", "loraplane parity gate", class_="overline"),
        element("h1", clip(text(report, "version") or "a version without a name", 200)),
        _verdict(word),
        _reasons("Reasons", report, "reasons"),
        _vouches(report),
        _reasons("Notes", report, "notes"),
        _figures(report) if mapping(report, "numeric") else None,
        _about(report),
        class_=f"summary {word.lower()}",
    )


def _verdict(word: str) -> Html:
    sign = element(
        "svg",
        element("circle", cx=12, cy=12, r=11, class_="disc"),
        element("path", d=_SIGN.get(word, _SIGN["INCONCLUSIVE"]), class_="stroke"),
        viewBox="0 0 24 24",
        width=40,
        height=40,
        aria_hidden="true",
    )
    words = element(
        "span",
        element("strong", word, id="verdict"),
        element("span", _MEANING.get(word, "The report names no verdict.")),
        class_="words",
    )
    return element("p", sign, words, class_="verdict")


def _reasons(title: str, report: Json, key: str) -> Html | None:
    # What stands elsewhere on the page is not said twice.
    elsewhere = {text(report, "first_line"), text(report, "detectable", "sentence")} - {None}
    said = elsewhere if key == "notes" else set()
    given = [item for item in items(report, key) if text(item, "text") not in said]
    if not given:
        return None
    lines = [element("li", *_reason(item)) for item in given[:_MOST_REASONS]]
    rest = len(given) - len(lines)
    if rest > 0:
        lines.append(element("li", f"and {rest:,} more, in the JSON report"))
    heading = element("h2", title)
    return element("div", heading, element("ul", *lines), class_=f"reasons {key}")


def _reason(item: object) -> list[str]:
    if isinstance(item, str):
        return [clip(item, _LONGEST_TEXT)]
    sentence = text(item, "text") or text(item, "detail") or ""
    name = text(item, "code")
    parts: list[str] = [code(clip(name, 80)), " "] if name else []
    return [*parts, clip(sentence, _LONGEST_TEXT)]


def _vouches(report: Json) -> Html | None:
    first = text(report, "first_line")
    if first is None or first in {text(item, "text") for item in rows(report, "reasons")}:
        return None
    label = element("strong", "What vouches for the files. ")
    return element("p", label, clip(first, _LONGEST_TEXT), class_="vouches")


def _figures(report: Json) -> Html:
    figures = [_agreement(report), _difference(report), _task(report), _detectable(report)]
    return element("div", *figures, class_="figures")


def _figure(label: str, value: str | None, *about: str | None) -> Html:
    return element(
        "div",
        element("p", label, class_="label"),
        element("p", notation.shown(value), class_="value"),
        element("p", *about, class_="about"),
        class_="figure",
    )


def _agreement(report: Json) -> Html:
    numeric = mapping(report, "numeric")
    n_real = number(numeric, "n_real_divergences")
    about = f"of {notation.count(number(numeric, 'n_tokens')) or notation.UNDEFINED} tokens"
    if n_real is not None:
        about += f"; {n_real:,.0f} divergence{'s' if n_real != 1 else ''} beyond near-ties"
    agreement = notation.percent(number(numeric, "token_agreement"), 2)
    return _figure("Tokens that are the standalone model's own choice", agreement, about)


def _difference(report: Json) -> Html:
    floor = number(report, "controls", "negative", "totals", "mean_delta_nats")
    effect = number(report, "controls", "positive", "effect_nats")
    return _figure(
        "Mean |Δ logprob|, in nats",
        notation.significant(number(report, "numeric", "mean_delta_nats"), 2),
        "noise floor ",
        notation.shown(notation.significant(floor, 2)),
        "; the adapter's own effect ",
        notation.shown(notation.significant(effect, 2)),
    )


def _task(report: Json) -> Html:
    """The worst gated segment: a mean over all cases hides what one group of users sees."""
    sides = {
        "standalone": mapping(report, "task", "serving"),
        clip(text(report, "task", "live_version") or "live", 60): mapping(report, "task", "live"),
    }
    judged = [
        (_delta_of(row), index, before, comparison, row)
        for before, comparison in sides.items()
        for index, row in enumerate([mapping(comparison, "total"), *_gated(comparison)])
        if row
    ]
    if not judged:
        label = "Worst gated segment, in points"
        return _figure(label, None, "not scored: the suite gives no gold answers")
    _, index, before, comparison, row = min(judged, key=lambda item: item[:2])
    name = clip(text(row, "segment") or "", 60) if index else "all cases"
    about = f"{name}, {notation.count(number(row, 'n')) or notation.UNDEFINED} cases, "
    if interval(row, "interval") is not None:
        about += "interval "
    about += bounds_text(row) or "interval undefined"
    if index:
        whole = notation.points(number(comparison, "total", "delta"))
        about += f"; all cases {whole or notation.UNDEFINED}"
    label = f"Worst gated segment, engine minus {before}, in points"
    return _figure(label, notation.points(number(row, "delta")), about)


def _gated(comparison: Json) -> list[Json]:
    return [row for row in rows(comparison, "segments") if row.get("is_gated") is True]


def _delta_of(row: Json) -> float:
    delta = number(row, "delta")
    return 0.0 if delta is None else delta


def _detectable(report: Json) -> Html:
    effect = number(report, "detectable", "effect")
    about = "a smaller regression could stay unseen by this suite"
    if effect is None:
        about = "this suite cannot say which regression it would see"
    # Rounded up: what the suite can rule out is never claimed to be smaller than it is.
    value = None if effect is None else f"{math.ceil(effect * 1_000 - 1e-9) / 10:.1f}"
    return _figure("Smallest regression that the suite can rule out, in points", value, about)


def _about(report: Json) -> Html:
    pairs: list[tuple[str, str | None]] = [
        ("Started", text(report, "started_at")),
        ("Took", notation.seconds(total_seconds(report))),
        ("Suite", _suite(report)),
        ("Base model", _base(report)),
        ("Engine", _engine(report)),
        ("Adapter digest", text(report, "adapter_digest")),
    ]
    present = [(name, join([clip(value, 200)])) for name, value in pairs if value]
    return facts(present, class_="facts about")


def total_seconds(report: Json) -> float | None:
    """Seconds of the whole evaluation, else of all known stages together; None when unknown."""
    seconds = mapping(report, "seconds_by_stage")
    whole = number(seconds, "total")
    known = [value for raw in seconds.values() if (value := number(raw)) is not None]
    return whole if whole is not None else sum(known) if known else None


def _suite(report: Json) -> str | None:
    suite = mapping(report, "suite")
    n_cases = number(suite, "n_cases")
    if n_cases is None:
        return None
    name = "built-in numeric probe" if suite.get("is_builtin") is True else text(suite, "id")
    return f"{name or 'unnamed'}, {n_cases:,.0f} cases"


def _base(report: Json) -> str | None:
    base = mapping(report, "base")
    size = notation.parameters(number(base, "n_parameters"))
    # Of a folder its name says enough here; the record has all of it.
    name = (text(base, "model") or "").rstrip("/").rpartition("/" if _is_path(base) else "\0")[2]
    parts = [name, size and f"{size} parameters", text(base, "dtype")]
    return ", ".join(part for part in parts if part) or None


def _is_path(base: Json) -> bool:
    return (text(base, "model") or "").startswith(("/", "."))


def _engine(report: Json) -> str | None:
    engine = mapping(report, "engine")
    parts = [text(engine, "id"), text(engine, "build")]
    return ", ".join(part for part in parts if part) or None
