"""Does our scoring of tool calls agree with the Berkeley leaderboard, and where not, why?

Every question of five categories, answered with the gold and with each systematic change of it,
written in the tool-call syntaxes in turn, scored both ways. A disagreement that no known
difference between the two explains makes this exit 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapters.parity.scoring import score_answer
from bench.bfcl.leaderboard import CATEGORIES, Question, leaderboard_passes, load_questions
from bench.bfcl.mutations import Answer, answers_to
from bench.bfcl.reasons import REASONS, UNEXPLAINED, explain
from bench.bfcl.spelling import spell

_MAX_EXAMPLES = 20


@dataclass
class Tally:
    """Counts of both verdicts, and the disagreements by reason."""

    n: Counter[str] = field(default_factory=Counter)
    n_agreed: Counter[str] = field(default_factory=Counter)
    meant: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_reason: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    unexplained: list[dict[str, Any]] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        """Answers with the same verdict, as a fraction of all."""
        return self.n_agreed.total() / self.n.total()


def compare_verdicts(questions: Iterable[Question]) -> Tally:
    """Score every answer to the questions both ways."""
    tally = Tally()
    n_spelt = 0
    for question in questions:
        for answer in answers_to(question):
            n_spelt += 1
            theirs = leaderboard_passes(question, answer.calls)
            text, tool_calls = spell(answer.calls, n_spelt)
            score = score_answer(question.case, text, tool_calls=tool_calls)
            assert score is not None
            _count(tally, question, answer, ours=score.is_pass, theirs=theirs)
    return tally


def _count(tally: Tally, question: Question, answer: Answer, *, ours: bool, theirs: bool) -> None:
    tally.n[question.category] += 1
    tally.meant.update(n=not answer.is_respelt, agreed=not answer.is_respelt and ours == theirs)
    row = tally.by_kind[answer.kind]
    row["n"] += 1
    row["ours"] += ours
    row["theirs"] += theirs
    if ours == theirs:
        tally.n_agreed[question.category] += 1
        row["agreed"] += 1
        return
    reason = explain(question, answer, theirs=theirs)
    example = {
        "id": question.case.id,
        "change": answer.kind,
        "argument": answer.argument and answer.argument[1],
        "value": answer.value,
        "allowed": answer.argument and question.allowed(*answer.argument),
        "ours": ours,
        "theirs": theirs,
    }
    tally.by_reason[reason] += 1
    tally.examples.setdefault(reason, example)
    if reason == UNEXPLAINED:
        tally.unexplained.append(example)


def to_json(tally: Tally) -> dict[str, Any]:
    """The result file."""
    return {
        "bfcl_eval": version("bfcl-eval"),
        "n_answers": tally.n.total(),
        "agreement": round(tally.agreement, 5),
        "not_respelt": dict(tally.meant),
        "categories": {
            name: {"n": n, "agreement": round(tally.n_agreed[name] / n, 5)}
            for name, n in sorted(tally.n.items())
        },
        "reasons": {
            name: {"n": n, "meaning": REASONS.get(name, ""), "example": tally.examples[name]}
            for name, n in tally.by_reason.most_common()
        },
        "changes": {
            kind: {name: row[name] for name in ("n", "ours", "theirs", "agreed")}
            for kind, row in sorted(tally.by_kind.items())
        },
    }


def main() -> None:
    """Print the tables, write the JSON with `--out`; exit 1 on an unexplained disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES), choices=CATEGORIES)
    options = parser.parse_args()
    tally = compare_verdicts(q for name in options.categories for q in load_questions(name))
    result = to_json(tally)
    print(f"{result['n_answers']} answers, same verdict on {tally.agreement:.2%}")
    print(
        f"{tally.meant['agreed']} of the {tally.meant['n']} that are not merely written otherwise"
    )
    for name, row in result["categories"].items():
        print(f"  {name:<18} {row['n']:>6}  {row['agreement']:.2%}")
    for name, row in result["reasons"].items():
        print(f"{row['n']:>6}  {name}: {row['meaning']}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    if tally.unexplained:
        print(json.dumps(tally.unexplained[:_MAX_EXAMPLES], indent=1))
        sys.exit(1)


if __name__ == "__main__":
    main()
