"""A comparison of a suite with a training set, in a process of its own: `python -m` this module.

Arguments: the suite's file, the training set's file, the rules as JSON. Says on stdout, a JSON line
each: `{"n_documents"}` now and then, at last `{"report"}` or `{"error": {"code", "fields"}}`. It
takes the processor only when nobody else wants it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.parity.contamination import ContaminationRules, find_contamination
from adapters.parity.suite import parse_suite
from adapters.parity.training_set import read_training_set

_NICENESS = 10


def main(arguments: list[str]) -> None:
    """Compare, and say what was found."""
    suite, training, rules = arguments
    try:
        report = _compare(Path(suite), Path(training), json.loads(rules))
    except AdapterError as error:
        _say(error={"code": error.code, "fields": error.fields})
    else:
        _say(report=report)


def _compare(suite: Path, training: Path, rules: dict[str, Any]) -> dict[str, Any]:
    cases = parse_suite(suite.read_bytes()).cases
    with training.open("rb") as file:
        return find_contamination(
            cases,
            read_training_set(file),
            rules=ContaminationRules(**{**rules, "sweep": tuple(rules["sweep"])}),
            on_progress=lambda n: _say(n_documents=n),
        ).to_json()


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.nice(_NICENESS)
    main(sys.argv[1:])
