"""Numbers as people read them. None is "undefined" here as everywhere, never zero. Pure."""

from __future__ import annotations

from adapters.parity.report_page.markup import Html, element, escape

UNDEFINED = "undefined"
NOT_APPLICABLE = "\u2013"
TIMES = "\u00d7"
_MINUS = "\u2212"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def undefined() -> Html:
    """The mark of a value that does not exist."""
    return element("span", UNDEFINED, class_="undefined")


def shown(text: str | None) -> Html:
    """A formatted value, or the mark of none."""
    return undefined() if text is None else escape(text)


def count(value: float | None) -> str | None:
    """A whole number: 12,000."""
    return None if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str | None:
    """A share of one as percent. What is not all is never rounded to 100 %, nor to 0 %."""
    if value is None:
        return None
    if 0.0 < value < 1.0:
        while f"{value:.{digits}%}" in {f"{1:.{digits}%}", f"{0:.{digits}%}"} and digits < 6:
            digits += 1
    return f"{value:.{digits}%}".replace("-", _MINUS)


def points(value: float | None, digits: int = 1) -> str | None:
    """A difference of shares in percentage points, with its sign."""
    if value is None:
        return None
    written = f"{value * 100:+.{digits}f}"
    return written.replace("-", _MINUS) if float(written) else f"{0:.{digits}f}"


def significant(value: float | None, digits: int = 3) -> str | None:
    """Three digits that matter: 0.0123, 1.2e-6 as a power of ten."""
    if value is None:
        return None
    written = f"{value:.{digits}g}"
    mantissa, has_exponent, exponent = written.partition("e")
    if has_exponent:
        written = f"{mantissa} {TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return written.replace("-", _MINUS)


def nats(value: float | None) -> str | None:
    """A difference of log-probabilities with its unit."""
    written = significant(value)
    return None if written is None else f"{written} nats"


def p_value(value: float | None) -> str | None:
    """A probability value; a tiny one as a bound."""
    if value is None:
        return None
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str | None:
    """A duration: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if value is None:
        return None
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def parameters(value: float | None) -> str | None:
    """A number of parameters: 135 M, 8.0 B."""
    if value is None:
        return None
    if value >= 1e9:
        return f"{value / 1e9:.1f} B"
    if value < 1e5:
        return f"{value:,.0f}"
    return f"{value / 1e6:.1f} M" if value < 1e7 else f"{value / 1e6:.0f} M"
