"""The goals of one replay: a file's or the usual ones, and what options say instead. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from serving.tuning.goals import THROUGHPUT
from serving.tuning.load_shape import Shape
from serving.tuning.slo import ALL, Slo, SloInvalid, Slos, default_goals


def choose_goals(
    shape: Shape,
    file: Slos | None,
    *,
    has_current: bool,
    limits: Mapping[str, Sequence[str] | None],
    ratios: Mapping[str, float | None],
) -> Slos:
    """The file's goals, or the usual ones where there is none, with what options say over them.

    `limits`: by figure, texts `[CLASS=]MILLISECONDS`. `ratios`: by figure, over the current one's,
    for each class of the window. Without a current one, a limit takes the place of all usual ones:
    those are for who has said nothing.

    Raises:
        SloInvalid: a goal that cannot be meant, or that this replay cannot show.
    """
    given = [*_limits(limits), *_ratios(ratios, shape)]
    if file is not None:
        usual = file.goals
    elif given and not has_current:
        usual = ()
    else:
        usual = default_goals(shape, has_current=has_current)
    said = {_key(slo) for slo in given}
    goals = (*(slo for slo in usual if _key(slo) not in said), *given)
    if not goals:
        raise SloInvalid(
            "limits", "the usual ones have none for this window: give --e2e-p99-ms, or --slo FILE"
        )
    slos = dataclasses.replace(file or Slos(()), goals=goals)
    slos.check(shape, has_current=has_current)
    return slos


def _key(slo: Slo) -> tuple[str, str | None, bool]:
    return slo.metric, slo.kind, slo.is_relative


def _limits(limits: Mapping[str, Sequence[str] | None]) -> Iterator[Slo]:
    for metric, texts in limits.items():
        for text in texts or ():
            kind, _, number = text.rpartition("=")
            try:
                limit = float(number)
            except ValueError as exc:
                raise SloInvalid(metric, f"{text!r} is not [CLASS=]MILLISECONDS") from exc
            yield Slo(metric, limit, None if kind in ("", ALL) else kind)


def _ratios(ratios: Mapping[str, float | None], shape: Shape) -> Iterator[Slo]:
    for metric, limit in ratios.items():
        if limit is not None:
            kinds = (None,) if metric == THROUGHPUT else shape.kinds
            yield from (Slo(metric, limit, kind, is_relative=True) for kind in kinds)
