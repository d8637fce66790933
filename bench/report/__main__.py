"""`python -m bench.report`: bench/results as a page (.bench/report.html) and as the docs' tables.

Without an option only the page is written. `--write` also writes the generated parts of
docs/benchmarks.md; `--check` compares them instead, writes nothing and ends with 1 where they are
old. A result file that cannot be read is named, the others are reported, and the end is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.report.docs import docstring_of, render
from bench.report.load import load_results
from bench.report.page import plotly_script, render_page
from bench.result import RESULTS

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs" / "benchmarks.md"
PAGE = REPOSITORY / ".bench" / "report.html"


def descriptions() -> dict[str, str]:
    """The docstring of each scenario by its name."""
    folder = REPOSITORY / "bench" / "scenarios"
    return {path.stem: docstring_of(path.read_text("utf-8")) for path in folder.glob("*.py")}


def main(arguments: list[str] | None = None) -> int:
    """0: done, or the docs are up to date; 1: they are not, or a result cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="the docs too")
    parser.add_argument("--check", action="store_true", help="only compare the docs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the files")
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    loaded = load_results(given.results)
    for problem in loaded.problems:
        print(f"cannot be read: {problem}", file=sys.stderr)
    failed = bool(loaded.problems)
    if given.check or given.write:
        before = given.docs.read_text(encoding="utf-8")
        after = render(before, loaded, descriptions())
        if given.check:
            if before != after:
                print(f"{given.docs.name} is old: python -m bench.report --write", file=sys.stderr)
            return int(failed or before != after)
        given.docs.write_text(after, encoding="utf-8")
        print(given.docs)
    given.page.parent.mkdir(parents=True, exist_ok=True)
    page = render_page(loaded, descriptions(), script=plotly_script())
    given.page.write_text(page, encoding="utf-8")
    print(given.page)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
