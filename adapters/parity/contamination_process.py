"""A comparison of a suite with a training set, in processes of its own: `python -m` this module.

Arguments: the suite's file, the training set's file, the rules as JSON. Says one JSON line:
`{"report"}` or `{"error": {"code", "fields"}}`. A large training set is halved by lines: a second
process, with the part as a further argument, says `{"findings"}` or an error to the first. Both
take the processor only when nobody else wants it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.parity.contamination import ContaminationRules
from adapters.parity.contamination_search import Findings, merge, report_of, search
from adapters.parity.suite import Case, parse_suite
from adapters.parity.training_set import WHOLE, Part, read_training_set

_NICENESS = 10
_WORTH_A_SECOND_PROCESS_BYTES = 4 * 1024**2
"""About a second of work, twice what starting another process takes."""
_MODULE = "adapters.parity.contamination_process"

Message = dict[str, Any]


def main(arguments: list[str]) -> None:
    """Compare, and say what was found."""
    suite, training, rules = arguments[:3]
    part = Part(*json.loads(arguments[3])) if len(arguments) > 3 else None
    try:
        message = _compare(Path(suite), Path(training), json.loads(rules), part)
    except AdapterError as error:
        message = {"error": {"code": error.code, "fields": error.fields}}
    sys.stdout.write(json.dumps(message) + "\n")


def _compare(suite: Path, training: Path, raw: dict[str, Any], part: Part | None) -> Message:
    cases = parse_suite(suite.read_bytes()).cases
    rules = ContaminationRules(**{**raw, "sweep": tuple(raw["sweep"])})
    if part is not None:
        return {"findings": _search(cases, training, rules, part).to_json()}
    if training.stat().st_size < _WORTH_A_SECOND_PROCESS_BYTES or (os.cpu_count() or 1) < 2:
        return {"report": report_of(cases, _search(cases, training, rules), rules).to_json()}
    files = [str(suite), str(training), json.dumps(raw)]
    second = [sys.executable, "-m", _MODULE, *files, json.dumps(Part(1, 2))]
    with subprocess.Popen(second, stdout=subprocess.PIPE) as process:
        try:
            mine = _search(cases, training, rules, Part(0, 2))
            told: Message = json.loads(process.communicate()[0])
        finally:
            process.kill()
    if "error" in told:
        return told
    theirs = Findings.from_json(told["findings"])
    return {"report": report_of(cases, merge([mine, theirs]), rules).to_json()}


def _search(
    cases: tuple[Case, ...], training: Path, rules: ContaminationRules, part: Part = WHOLE
) -> Findings:
    asker = os.getppid()

    def end_with_asker(_n_documents: int) -> None:
        if os.getppid() != asker:
            sys.exit("whoever asked is gone: nobody would hear the answer")

    with training.open("rb") as file:
        texts = read_training_set(file, part=part)
        return search(cases, texts, rules=rules, on_progress=end_with_asker)


if __name__ == "__main__":
    os.nice(max(0, _NICENESS - os.nice(0)))
    main(sys.argv[1:])
