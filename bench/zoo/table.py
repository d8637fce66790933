"""The zoo's results: one table on the terminal, one in docs/zoo.md, and all rows as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.zoo.bad import BAD
from bench.zoo.good import GOOD
from bench.zoo.rows import Row
from bench.zoo.sources import RANKS

_BASES = {"smol": "SmolLM2-135M-Instruct", "tiny": "a random two-layer Llama"}
_HEAD = """# The zoo

Known-bad and good adapters, each sent through the whole pipeline: upload, validation, standalone
model, real vLLM engine. Written by `python -m bench.zoo`; the rows are in `bench/results/zoo.json`.

Measured on: {measured}.

Every bad kind was made from good adapters of the ranks {ranks}; a cell counts how many of them were
caught, where, and by which code.

"""
_BAD_HEAD = """## Bad: {n} kinds

*With a fingerprint*: the training fingerprint was uploaded beside the files (where files alone
decide, it changes nothing and was left out). *Files alone*: no fingerprint and no gold answers in
the suite. **Not caught** there is the honest answer: such a file is a well-formed adapter that was
simply never trained, and standalone model and engine agree on it. Only evidence from training, gold
answers, or an existing deployment can tell.

| kind | with a fingerprint | files alone |
| --- | --- | --- |
"""
_GOOD_HEAD = """
## Good: {n} adapters

The effect is how far the adapter moves the answers from the base's, the difference how far engine
and standalone model disagree; both are means of |delta logprob| in nats, per number type.

| adapter | rank | file | verdicts | effect | difference |
| --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
## Not in the zoo

- A tokenizer or chat template that differs from the base's: the engine uses the base's, an upload
  does not carry them, and `loraplane check` warns of it.
- An adapter trained on a quantized base: the fingerprint records it, and its answers then decide
  nothing. Not tried here for want of a GPU.
- Values that only float16 cannot hold: an engine in float16 refuses them at preflight, which unit
  tests show.
- What harms by how it is *served* and not by what it is: a reused name, evictions, mixed batches, a
  NaN at run time. Those are end-to-end tests of the engine.
"""


@dataclass(frozen=True, slots=True)
class Results:
    """All rows of a run."""

    rows: Sequence[Row]

    def of(self, kind: str, *, has_fingerprint: bool | None = None) -> list[Row]:
        """Rows of one kind."""
        return [
            row
            for row in self.rows
            if row.task.kind == kind
            and (has_fingerprint is None or row.task.has_fingerprint == has_fingerprint)
        ]

    @property
    def complaints(self) -> list[str]:
        """Everything that is not as claimed."""
        return [f"{row.task.key}: {row.complaint}" for row in self.rows if row.complaint]

    @property
    def measured(self) -> str:
        """Bases and number types."""
        return ", ".join(
            sorted({f"{_BASES[row.task.base]} in {row.task.dtype}" for row in self.rows})
        )


def to_json(results: Results, *, about: dict[str, Any]) -> str:
    """The results file."""
    head = {
        **about,
        "n_bad_kinds": len(BAD),
        "n_good": len(GOOD),
        "ranks": list(RANKS),
        "complaints": results.complaints,
    }
    lines = ",\n".join(json.dumps(row.to_json()) for row in results.rows)
    return f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n{lines}\n ]\n}}\n'


def to_markdown(results: Results) -> str:
    """docs/zoo.md."""
    text = _HEAD.format(measured=results.measured, ranks=", ".join(map(str, RANKS)))
    text += _BAD_HEAD.format(n=len(BAD))
    for kind in BAD.values():
        text += f"| {kind.title} | {_with(results, kind.name)} | {_alone(results, kind.name)} |\n"
    text += _GOOD_HEAD.format(n=len(GOOD))
    for recipe in GOOD.values():
        rows = results.of(recipe.name)
        cells = (
            recipe.name, str(recipe.rank), recipe.dtype,
            ", ".join(f"{row.task.dtype} {row.outcome.verdict}" for row in rows) or "not run",
            ", ".join(_number(row.outcome.effect_nats) for row in rows),
            ", ".join(_number(row.outcome.mean_delta_nats) for row in rows),
        )  # fmt: skip
        text += f"| {' | '.join(cells)} |\n"
    return text + _TAIL


def to_tables(results: Results) -> Iterable[Table]:
    """The same for the terminal."""
    bad = Table("kind", "with a fingerprint", "files alone", title=f"bad: {len(BAD)} kinds")
    for kind in BAD.values():
        if results.of(kind.name):
            cells = (_with(results, kind.name), _alone(results, kind.name))
            bad.add_row(kind.title, *(cell.replace("`", "").replace("**", "") for cell in cells))
    good = Table("adapter", "verdict", "effect", "difference", "seconds", title="good")
    for row in (row for row in results.rows if not row.task.is_bad):
        effect, difference = row.outcome.effect_nats, row.outcome.mean_delta_nats
        verdict = row.outcome.verdict or row.outcome.state
        numbers = (_number(effect), _number(difference), f"{row.seconds:.0f}")
        good.add_row(f"{row.task.kind} ({row.task.dtype})", verdict, *numbers)
    return bad, good


def _with(results: Results, kind: str) -> str:
    if not BAD[kind].needs_fingerprint:
        return "the files decide"
    return _cell(results.of(kind, has_fingerprint=True))


def _alone(results: Results, kind: str) -> str:
    return _cell(results.of(kind, has_fingerprint=False))


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return "not run"
    caught = [row for row in rows if row.outcome.is_caught]
    if not caught:
        return f"**not caught** (0 of {len(rows)})"
    kind = BAD[rows[0].task.kind]
    if not rows[0].task.has_fingerprint and not kind.alone:
        codes = dict.fromkeys(code for row in caught for code in row.outcome.codes)
        held = f"{len(caught)} held back for something else ({', '.join(f'`{c}`' for c in codes)})"
        return f"**not caught** ({len(rows) - len(caught)} of {len(rows)} passed; {held})"
    places = ", ".join(dict.fromkeys(row.outcome.place.value for row in caught))
    named = kind.named_by | kind.alone
    codes = dict.fromkeys(code for row in caught for code in _named_first(row, named)[:1])
    return f"{places}: {', '.join(f'`{c}`' for c in codes)} ({len(caught)} of {len(rows)})"


def _named_first(row: Row, named: frozenset[str]) -> list[str]:
    return sorted(row.outcome.codes, key=lambda code: code not in named)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
