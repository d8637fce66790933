"""What `loraplane suite` prints, and the facts behind it. Knows no HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from adapters.parity.suite import MAX_CASES, MAX_ERRORS, Suite, SuiteScan
from adapters.parity.suite_expect import kind_of
from adapters.parity.suite_review import review_suite
from adapters.parity.suite_sample import Sample
from serving.cli import views
from serving.cli.client import Json
from serving.cli.errors import RequestRefused

_SHOWN_LEAKS = 20


def check_facts(scan: SuiteScan) -> Json:
    """Everything that a check finds. Only a valid suite has a digest, and is reviewed."""
    errors = [error.fields for error in scan.errors]
    facts = suite_facts(Suite(scan.cases)) if not errors else {"n_cases": len(scan.cases)}
    return {"notes": [], **facts, "is_valid": not errors, "errors": errors}


def suite_facts(suite: Suite) -> Json:
    """Size, digest, segments and notes."""
    sizes = Counter(case.segment for case in suite.cases)
    gold = Counter(case.segment for case in suite.cases if case.expect is not None)
    kinds = Counter(kind_of(case.expect) for case in suite.cases if case.expect is not None)
    return {
        "digest": suite.digest,
        "n_cases": len(suite.cases),
        "n_gold": sum(gold.values()),
        "n_recovery": sum(case.is_recovery for case in suite.cases),
        "expectations": dict(kinds),
        "segments": [
            {"segment": segment, "n_cases": size, "n_gold": gold[segment]}
            for segment, size in sizes.items()
        ],
        "notes": notes_of(suite),
    }


def notes_of(suite: Suite) -> list[Json]:
    """The review's notes, JSON-ready."""
    return [note.to_json() for note in review_suite(suite)]


def sample_facts(sample: Sample) -> Json:
    """What was drawn, segment by segment."""
    return {
        "n_cases": len(sample.suite.cases),
        "digest": sample.suite.digest,
        "seed": sample.seed,
        "floor_per_segment": sample.floor_per_segment,
        "segments": [row.to_json() for row in sample.segments],
        "notes": list(sample.notes),
    }


def place(fields: Mapping[str, Any]) -> str:
    """`line 3, expect.text` of an error's fields."""
    line = f"line {fields['line']}" if fields["line"] else "the whole file"
    return f"{line}, {fields['field']}" if fields["field"] else line


def print_errors(file: Path, scan: SuiteScan) -> None:
    """Every error: where, what, and how to put it right."""
    for error in scan.errors:
        fields = error.fields
        views.err.print(
            f"{escape(str(file))}, [red]{escape(place(fields))}[/red]: "
            f"{escape(fields['problem'])}\n    fix: {escape(fields['fix'])}",
            soft_wrap=True,
            highlight=False,
        )
    if len(scan.errors) >= MAX_ERRORS:
        views.err.print(f"the first {MAX_ERRORS} errors; there may be more")


def print_notes(notes: Sequence[Mapping[str, Any]]) -> None:
    """Advice, on standard error: it refuses nothing."""
    for note in notes:
        views.err.print(
            f"[yellow]{escape(note['code'])}[/yellow] {escape(note['text'])}\n"
            f"    fix: {escape(note['fix'])}",
            soft_wrap=True,
            highlight=False,
        )


def print_suite(name: str, facts: Mapping[str, Any]) -> None:
    """One suite, from a file or stored."""
    shown = ("id", "digest", "n_cases", "n_gold", "n_recovery")
    kinds = ", ".join(f"{n} {kind}" for kind, n in facts["expectations"].items())
    pairs = {key: facts[key] for key in shown if key in facts}
    views.print_pairs({"suite": name, **pairs, "expectations": kinds or "none"})
    rows = [(row["segment"], row["n_cases"], row["n_gold"]) for row in facts["segments"]]
    views.print_table("segments", ("segment", "cases", "with gold"), rows)
    if "contamination" in facts:  # A stored suite; a file was compared with nothing.
        print_contamination(facts["contamination"])
    print_notes(facts["notes"])


def print_sample(sample: Sample) -> None:
    """What was drawn of what there is."""
    rows = [(row.segment, row.n_cases, row.n_sampled) for row in sample.segments]
    views.print_table("segments", ("segment", "cases", "drawn"), rows)
    for note in sample.notes:
        views.err.print(note, markup=False, highlight=False, soft_wrap=True)
    if len(sample.suite.cases) > MAX_CASES:
        views.err.print(f"A suite holds at most {MAX_CASES} cases: draw fewer.")


def print_stored(rows: Sequence[Mapping[str, Any]]) -> None:
    """A tenant's suites."""
    cells = [
        (row["id"], row["n_cases"], _leaked(row), row["digest"], views.when(row["created_at"]))
        for row in rows
    ]
    columns = ("suite", "cases", "in the training set", "digest", "stored")
    views.print_table("suites", columns, cells)


def print_contamination(report: Mapping[str, Any] | None) -> None:
    """What the comparison with the training set found; says so when there was none."""
    if report is None:
        views.err.print("Not compared with a training set: give one with --training FILE.")
        return
    limit = report["rules"]["max_fraction"]
    views.out.print(
        f"compared with {report['n_documents']} documents: {report['n_leaked']} of "
        f"{report['n_cases']} cases are near-duplicates ({_percent(report['fraction'])}, allowed "
        f"{_percent(limit)}); the gate leaves them out",
        soft_wrap=True,
        highlight=False,
    )
    views.out.print(_sweep_table(report["sweep"]))
    leaks = report["leaks"]
    rows = [(leak["case_id"], leak["document"], f"{leak['jaccard']:.3f}") for leak in leaks]
    if rows:
        title = f"the first {_SHOWN_LEAKS}" if len(rows) > _SHOWN_LEAKS else "near-duplicates"
        views.print_table(
            title, ("case", "line of the training set", "Jaccard"), rows[:_SHOWN_LEAKS]
        )


def print_refusal(error: RequestRefused) -> None:
    """The table that comes with a refusal for contamination; the error itself says the rest."""
    if error.code != "suite_contaminated":
        return
    table = _sweep_table((error.problem.get("data") or {}).get("sweep") or ())
    views.err.print(table)


def _sweep_table(sweep: Sequence[Mapping[str, Any]]) -> Table:
    rows = [(row["jaccard"], row["n_leaked"], _percent(row["fraction"])) for row in sweep]
    return views.make_table("by threshold", ("Jaccard from", "cases", "of the suite"), rows)


def _leaked(row: Mapping[str, Any]) -> str:
    report = row.get("contamination")
    return "unknown" if report is None else f"{report['n_leaked']} of {report['n_cases']}"


def _percent(fraction: float | None) -> str:
    return "unknown" if fraction is None else f"{100 * fraction:.2f} %"
