"""What became of one adapter, and whether that is what its kind claims. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Place(StrEnum):
    """Where an adapter was stopped, the cheapest link first."""

    UPLOAD = "upload"
    PREFLIGHT = "preflight"
    FINGERPRINT = "fingerprint"
    STRICT_LOAD = "strict load"
    STANDALONE = "standalone numerics"
    ENGINE = "engine"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`state` is the version's last state, or `refused` where no version was made."""

    state: str
    place: Place
    codes: tuple[str, ...]
    detail: str = ""
    """The first reason's sentence."""
    verdict: str | None = None
    first_line: str | None = None
    effect_nats: float | None = None
    mean_delta_nats: float | None = None
    n_real_divergences: int | None = None

    @property
    def is_caught(self) -> bool:
        """Whether it may not go live."""
        return self.state in {"refused", "rejected", "failed", "inconclusive"}


def refused(status: int, problem: Mapping[str, Any]) -> Outcome:
    """An upload that was answered with an error; its code, and the reason inside it."""
    data = problem.get("data") or {}
    codes = (str(problem.get("code", status)), *filter(None, [data.get("reason")]))
    return Outcome("refused", Place.UPLOAD, codes, str(problem.get("detail") or ""))


def rejected(version: Mapping[str, Any]) -> Outcome:
    """A version that validation turned down: files alone, or files against the fingerprint."""
    blocking = [item for item in version["findings"] if item["severity"] == "blocking"]
    codes = tuple(dict.fromkeys(item["code"] for item in blocking))
    return Outcome("rejected", _link(codes, Place.PREFLIGHT), codes, blocking[0]["meaning"])


def judged(state: str, report: Mapping[str, Any]) -> Outcome:
    """A version that went through the gate."""
    codes = tuple(item["code"] for item in report["reasons"])
    numeric = report.get("numeric") or {}
    positive = (report.get("controls") or {}).get("positive") or {}
    place = Place.NOWHERE
    if state not in {"passed", "live"}:
        place = _gate_link(report, codes)
    return Outcome(
        state=state,
        place=place,
        codes=codes,
        detail=report["reasons"][0]["text"] if report["reasons"] else "",
        verdict=report["verdict"],
        first_line=report["first_line"],
        effect_nats=positive.get("effect_nats"),
        mean_delta_nats=numeric.get("mean_delta_nats"),
        n_real_divergences=numeric.get("n_real_divergences"),
    )


def _gate_link(report: Mapping[str, Any], codes: Iterable[str]) -> Place:
    if report.get("load_problem") is not None:
        return Place.STRICT_LOAD
    if report.get("non_finite_cases") and not (report.get("numeric") or {}).get("n_answers"):
        return Place.STANDALONE
    return _link(codes, Place.ENGINE)


def _link(codes: Iterable[str], otherwise: Place) -> Place:
    is_export = all(code.startswith(("export_", "fingerprint_")) for code in codes)
    return Place.FINGERPRINT if is_export else otherwise
