"""The three controls: what each asks, what was measured, and what the policy allows. Pure."""

from __future__ import annotations

from adapters.parity.report_page import notation
from adapters.parity.report_page.markup import Html, clip, element, join
from adapters.parity.report_page.reading import Json, items, mapping, number, text
from adapters.parity.report_page.tables import Column, section, table


def render_controls(report: Json) -> Html:
    """A measurement without controls is not one, so an absent control is said to be absent."""
    controls, policy = mapping(report, "controls"), mapping(report, "policy")
    floor = _floor(report)
    columns = [
        Column("Control"),
        Column("What it asks", "wide"),
        Column("Measured", "wide"),
        Column("The policy asks", "wide"),
    ]
    lines = [
        _negative(mapping(controls, "negative"), policy),
        _positive(mapping(controls, "positive"), policy, floor),
        _repeat(mapping(controls, "repeat"), policy),
    ]
    lead = "The numbers above mean something only because these were measured the same way."
    return section(
        "controls",
        "Controls",
        table("Controls of the measurement", columns, lines, class_="cards"),
        lead=lead,
    )


def _floor(report: Json) -> float | None:
    """The floor that the verdict uses: the measured one, or what the number type can tell."""
    measured = number(report, "controls", "negative", "totals", "mean_delta_nats")
    resolution = number(report, "resolution", "mean_delta_nats")
    known = [value for value in (measured, resolution) if value is not None]
    return max(known) if measured is not None else None


def _negative(control: Json, policy: Json) -> tuple[str, ...]:
    totals = mapping(control, "totals")
    agreement = notation.percent(number(totals, "token_agreement"), 2)
    made_of = [text(control, key) for key in ("engine_build", "base_revision", "dtype")]
    about = ", ".join(clip(part, 80) for part in made_of if part)
    measured = join(
        [
            "mean ",
            notation.shown(notation.nats(number(totals, "mean_delta_nats"))),
            ", tokens equal ",
            notation.shown(agreement),
            element("small", f" {about}") if about else None,
        ]
    )
    limit = notation.nats(number(policy, "max_floor_nats"))
    return (
        "Negative",
        "Does the base model, without any adapter, agree with itself? This is the noise floor.",
        measured if control else _absent(),
        f"at most {limit}" if limit else notation.NOT_APPLICABLE,
    )


def _positive(control: Json, policy: Json, floor: float | None) -> tuple[str, ...]:
    effect, factor = number(control, "effect_nats"), number(policy, "effect_factor")
    measured = [notation.shown(notation.nats(effect))]
    if effect is not None and floor:
        measured.append(
            join([f", {notation.significant(effect / floor)} {notation.TIMES} the floor in force"])
        )
    asked = (
        notation.NOT_APPLICABLE
        if factor is None
        else f"at least {factor:g} {notation.TIMES} the noise floor"
    )
    return (
        "Positive",
        "Is the adapter there, and can this suite tell it from the base model?",
        join(measured) if effect is not None else _absent(),
        asked,
    )


def _repeat(control: Json, policy: Json) -> tuple[str, ...]:
    n_repeats, n_pairs = number(control, "n_repeats"), number(control, "n_pairs")
    agreement = notation.percent(number(control, "token_agreement"), 2)
    n_equal = notation.count(number(control, "n_equal_pairs"))
    measured = join(
        [
            f"{notation.count(n_repeats)} repeats, tokens equal ",
            notation.shown(agreement),
            f"; {n_equal or notation.UNDEFINED} of {notation.count(n_pairs)} pairs identical"
            if n_pairs
            else None,
            _pass_rates(control),
        ]
    )
    wanted = notation.count(number(policy, "min_repeats"))
    return (
        "Repeat",
        "Does the engine answer the same in batches of another composition?",
        measured if n_repeats else _absent(),
        f"at least {wanted} repeats, spread within the floor"
        if wanted
        else notation.NOT_APPLICABLE,
    )


def _pass_rates(control: Json) -> str | None:
    rates = [number(rate) for rate in items(control, "pass_rates")][:10]
    known = [written for rate in rates if (written := notation.percent(rate)) is not None]
    return f"; pass rates {', '.join(known)}" if known else None


def _absent() -> Html:
    return element("span", "not measured", class_="undefined")
