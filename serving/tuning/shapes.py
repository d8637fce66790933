"""The shapes that have names, and those of a YAML file: strict, with the fix in each error.

Everything that a reader of shapes needs can be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from serving.tuning.arrival_processes import Bursts, Diurnal, Poisson, Process, Uniform
from serving.tuning.lengths import Between, Fixed, Length, Lognormal
from serving.tuning.load_shape import AdapterMix, Arrival, RequestClass, Shape, ShapeSpec
from serving.tuning.recorded import (
    LONG_FROM,
    Recording,
    TraceInvalid,
    parse_when,
    read_recording,
)
from serving.tuning.strict_fields import FieldInvalid, Fields, nearest, parse_yaml

__all__ = [
    "Arrival",
    "BUILT_IN",
    "Shape",
    "ShapeInvalid",
    "ShapeSource",
    "ShapeSpec",
    "check_size",
    "left_out_note",
    "parse_shape",
    "read_shape",
]

MOST_REQUESTS = 1_000_000
"""A sample of a request of a few hundred tokens takes some 10 kB of memory."""


_MOST_SIGMA = 10.0
"""Beyond it, no length of a sample is between 1 token and any `most`."""
_ALL = "all"


class ShapeInvalid(ValueError):
    """A shape that cannot be used; `field` and `problem` say where and why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"load shape: {field}: {problem}")


_CHAT = RequestClass("short", Between(16, 64), Between(16, 48))
_LONG_PREFILL = (
    RequestClass("short", Fixed(20), Fixed(24)),
    RequestClass("long", Fixed(1500), Fixed(24), every=10),
)

BUILT_IN: Mapping[str, ShapeSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ShapeSpec("poisson", Poisson(2.0), (_CHAT,), requests=60),
            ShapeSpec("bursts", Bursts(2.0), (_CHAT,), requests=60),
            ShapeSpec("diurnal", Diurnal(2.0), (_CHAT,), seconds=60.0),
            ShapeSpec("long-prefill", Poisson(1.5), _LONG_PREFILL, requests=60),
            ShapeSpec("zipf", Poisson(2.0), (_CHAT,), AdapterMix(16, 1.0), requests=60),
            ShapeSpec(
                "lognormal",
                Poisson(1.0),
                (RequestClass("any", Lognormal(120, 1.0, 1500), Lognormal(40, 0.8, 300)),),
                requests=60,
            ),
        )
    }
)
"""Shapes by name, small enough for a CPU; `dataclasses.replace` gives them another rate or end."""


_PROCESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "poisson": (),
        "uniform": (),
        "bursts": ("on_seconds", "off_seconds"),
        "diurnal": ("period_seconds", "swing"),
    }
)
"""By name, the fields that each has besides `rate`."""


class ShapeSource(Protocol):
    """What gives a shape: a `ShapeSpec`, or a `Recording`, which is the same for every seed."""

    @property
    def name(self) -> str:
        """For people."""

    def draw(self, seed: int) -> Shape:
        """The requests, the same for the same seed."""


def read_shape(source: str) -> ShapeSource:
    """A built-in shape by its name; one of a YAML or JSON file; or a recorded trace (.jsonl).

    Raises:
        ShapeInvalid: none of them; a file cannot be read; or what it says cannot be used.
    """
    if source in BUILT_IN:
        return BUILT_IN[source]
    path = Path(source)
    if path.suffix == ".jsonl":
        return _read_traces([path])
    if path.suffix not in {".yaml", ".yml", ".json"}:
        known = f"nor one of {', '.join(BUILT_IN)}{nearest(source, BUILT_IN)}"
        raise ShapeInvalid(source, f"is neither a file (.yaml, .json, .jsonl) {known}")
    try:
        loaded = parse_yaml(path.read_text())
    except OSError as exc:
        raise ShapeInvalid(str(path), str(exc.strerror or exc)) from exc
    except (UnicodeError, FieldInvalid) as exc:
        raise ShapeInvalid(str(path), str(exc)) from exc
    if not isinstance(loaded, dict):
        raise ShapeInvalid(str(path), "is not a mapping of fields to values")
    if "recorded" in loaded:
        return _parse_recorded(loaded, folder=path.parent)
    return parse_shape({"name": path.stem, **loaded})


def left_out_note(source: ShapeSource) -> str:
    """One sentence on the requests of a trace that are not replayed; empty where all are."""
    if not isinstance(source, Recording) or not source.left_out:
        return ""
    return (
        f"Left out of {source.name}: {source.left_out} requests; the load is that much less than "
        "what the engine had."
    )


def check_size(spec: ShapeSpec) -> ShapeSpec:
    """The spec, if its requests fit into memory.

    Raises:
        ShapeInvalid: it asks for more than `MOST_REQUESTS`.
    """
    if spec.expected_requests > MOST_REQUESTS:
        raise ShapeInvalid(
            "requests" if spec.seconds is None else "seconds",
            f"about {spec.expected_requests:.3g} requests are more than {MOST_REQUESTS:,}, which "
            "is the most: end it earlier",
        )
    return spec


def _parse_recorded(values: Mapping[str, Any], *, folder: Path) -> Recording:
    try:
        section = Fields(values, known=("recorded",)).value("recorded")
        known = ("files", "from", "to", "speed", "long_from")
        fields = Fields(section, known=known, path="recorded")
        paths = [folder / name for name in fields.texts("files")]
        since, until = (_moment(fields, name) for name in ("from", "to"))
        speed = fields.number("speed", 1.0, above=0)
        long_from = fields.whole("long_from", LONG_FROM)
    except FieldInvalid as exc:
        raise ShapeInvalid(exc.field, exc.problem) from exc
    return _read_traces(paths, since=since, until=until, speed=speed, long_from=long_from)


def _moment(fields: Fields, name: str) -> float | None:
    if name not in fields:
        return None
    value = fields.value(name)
    try:
        # YAML itself makes a datetime of an ISO time.
        return parse_when(value.isoformat() if isinstance(value, date) else str(value))
    except ValueError as exc:
        problem = f"{value!r} is neither Unix seconds nor a time as 2026-01-31T10:00Z"
        raise FieldInvalid(fields.path_of(name), problem) from exc


def _read_traces(paths: list[Path], **choices: Any) -> Recording:
    try:
        return read_recording(paths, **choices)
    except TraceInvalid as exc:
        raise ShapeInvalid(exc.source, exc.problem) from exc


def parse_shape(values: Mapping[str, Any]) -> ShapeSpec:
    """A shape as a YAML document says it; docs/load.md describes the fields.

    Raises:
        ShapeInvalid: a field is unknown, missing, of another type or impossible.
    """
    try:
        return check_size(_shape(values))
    except FieldInvalid as exc:
        raise ShapeInvalid(exc.field, exc.problem) from exc


def _shape(values: Mapping[str, Any]) -> ShapeSpec:
    known = ("name", "arrivals", "classes", "adapters", "requests", "seconds")
    fields = Fields(values, known=known)
    if "requests" not in fields and "seconds" not in fields:
        raise FieldInvalid("requests", "is missing, and so is seconds: one of them ends the load")
    return ShapeSpec(
        name=fields.text("name", "shape"),
        process=_process(fields.value("arrivals")),
        classes=_classes(fields.value("classes")),
        adapters=_adapters(fields.value("adapters")) if "adapters" in fields else AdapterMix(),
        requests=fields.whole("requests") if "requests" in fields else None,
        seconds=fields.number("seconds", above=0) if "seconds" in fields else None,
    )


def _process(values: Any) -> Process:
    every = {name for names in _PROCESSES.values() for name in names}
    fields = Fields(values, known=("process", "rate", *sorted(every)), path="arrivals")
    name = fields.one_of("process", _PROCESSES)
    fields = Fields(values, known=("process", "rate", *_PROCESSES[name]), path="arrivals")
    rate = fields.number("rate", above=0)
    if name == "bursts":
        on_seconds = fields.number("on_seconds", 5.0, above=0)
        return Bursts(rate, on_seconds, fields.number("off_seconds", 15.0, least=0))
    if name == "diurnal":
        period = fields.number("period_seconds", 60.0, above=0)
        return Diurnal(rate, period, fields.number("swing", 0.8, least=0, most=1))
    return Poisson(rate) if name == "poisson" else Uniform(rate)


def _classes(values: Any) -> tuple[RequestClass, ...]:
    if not isinstance(values, list) or not values:
        raise FieldInvalid("classes", f"{values!r} is not a list of classes")
    classes = tuple(_class(value, f"classes[{index}]") for index, value in enumerate(values))
    for index, request in enumerate(classes):
        if request.kind in {earlier.kind for earlier in classes[:index]}:
            raise FieldInvalid(f"classes[{index}].kind", f"{request.kind!r} is there twice")
    if all(request.every is not None for request in classes):
        raise FieldInvalid("classes", "all have `every`: one without it takes the other requests")
    return classes


def _class(values: Any, path: str) -> RequestClass:
    known = ("kind", "prompt", "output", "weight", "every", "shared_prefix")
    fields = Fields(values, known=known, path=path)
    if "weight" in fields and "every" in fields:
        raise FieldInvalid(
            fields.path_of("weight"), "and `every` exclude each other: leave one out"
        )
    kind = fields.text("kind")
    if kind == _ALL:
        raise FieldInvalid(fields.path_of("kind"), "'all' is the name of all classes together")
    return RequestClass(
        kind=kind,
        prompt=_length(fields.value("prompt"), fields.path_of("prompt")),
        output=_length(fields.value("output"), fields.path_of("output")),
        weight=fields.number("weight", 1.0, above=0),
        every=fields.whole("every", least=1) if "every" in fields else None,
        shared_prefix=fields.whole("shared_prefix", 0, least=0),
    )


def _length(value: Any, path: str) -> Length:
    if not isinstance(value, Mapping):
        # A bare number is the usual case; the reader's words about it fit both forms.
        tokens = Fields({"tokens": value}, known=("tokens",)).whole
        try:
            return Fixed(tokens("tokens"))
        except FieldInvalid as exc:
            raise FieldInvalid(
                path, f"{exc.problem}; or give from/to, or median/sigma/most"
            ) from exc
    if "from" in value or "to" in value:
        fields = Fields(value, known=("from", "to"), path=path)
        low = fields.whole("from")
        return Between(low, fields.whole("to", least=low))
    fields = Fields(value, known=("median", "sigma", "most"), path=path)
    median = fields.number("median", least=1)
    sigma = fields.number("sigma", least=0, most=_MOST_SIGMA)
    return Lognormal(median, sigma, fields.whole("most"))


def _adapters(values: Any) -> AdapterMix:
    fields = Fields(values, known=("number", "zipf"), path="adapters")
    return AdapterMix(fields.whole("number"), fields.number("zipf", 0.0, least=0))
