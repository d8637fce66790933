"""How long does a suite's comparison with its training set take, and what does it miss?

Conversations of a support desk with tool calls, made from a seed, against cases of which some are
planted in the training set at known similarities. The comparison runs as the controller runs it; a
second, exhaustive one (every pair, by the definition) says what it should have found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from adapters.parity.contamination import ContaminationReport, ContaminationRules
from bench.fixtures.support_desk import SYSTEM, TOOLS, conversation, question

_LEVELS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
"""Similarities at which cases are planted; each in turn."""
_PLANTED = 0.06
_BATCH = 2000
_SIZE = 5


@dataclass(frozen=True)
class World:
    """Two files, and what the definition of similarity is computed from."""

    cases: list[str]
    documents: list[list[str]]
    """Texts of each line: what was said before each answer."""
    planted: dict[int, float]
    """Index of a case -> its exact similarity with the document made from it."""


def shingles(text: str) -> set[str]:
    """The definition, written once more and apart from the product's code."""
    normal = " ".join(text.casefold().split())
    return {normal[i : i + _SIZE] for i in range(max(len(normal) - _SIZE + 1, 1))}


def similarity(left: str, right: str) -> float:
    one, two = shingles(left), shingles(right)
    return len(one & two) / len(one | two)


def near(rng: random.Random, text: str, level: float) -> str:
    """`text` with words changed one by one, as long as the similarity stays at or above `level`."""
    changed = text
    for _ in range(400):
        words = changed.split(" ")
        place = rng.randrange(len(words))
        words[place] = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=len(words[place]) or 1))
        if similarity(text, trial := " ".join(words)) < level:
            break
        changed = trial
    return changed


def make_world(n_cases: int, n_documents: int, *, seed: int) -> World:
    rng = random.Random(seed)
    cases = [question(rng) for _ in range(n_cases)]
    n_planted = int(n_cases * _PLANTED)
    planted = {}
    documents = [[*conversation(rng)] for _ in range(n_documents - n_planted)]
    for number, index in enumerate(rng.sample(range(n_cases), n_planted)):
        text = near(rng, cases[index], _LEVELS[number % len(_LEVELS)])
        planted[index] = similarity(cases[index], text)
        documents.insert(rng.randrange(len(documents)), [text])
    return World(cases, documents, planted)


def write_world(world: World, folder: Path) -> None:
    with (folder / "suite.jsonl").open("w") as file:
        for number, text in enumerate(world.cases):
            messages = [
                {"role": "system", "content": SYSTEM}, {"role": "user", "content": text},
            ]  # fmt: skip
            case = {"id": f"case-{number}", "messages": messages, "tools": TOOLS}
            file.write(json.dumps(case) + "\n")
    with (folder / "training.jsonl").open("w") as file:
        for said in world.documents:
            messages = [{"role": "system", "content": SYSTEM}]
            for place, text in enumerate(said):
                messages += [
                    {"role": "tool" if place else "user", "content": text},
                    {"role": "assistant", "content": '{"name": "done", "arguments": {}}'},
                ]
            file.write(json.dumps({"messages": messages, "tools": TOOLS}) + "\n")


def beginnings(said: Sequence[str]) -> Iterator[str]:
    for end in range(1, len(said) + 1):
        yield "\n".join(said[:end])


def best_by_definition(world: World) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Each case's largest similarity with any text of any document, over all pairs."""
    vocabulary: dict[str, int] = {}
    sets = [shingles(text) for text in world.cases]
    rows = [np.array([vocabulary.setdefault(s, len(vocabulary)) for s in item]) for item in sets]
    sizes = np.array([len(item) for item in sets])
    matrix = _matrix(rows, len(vocabulary)).T.tocsr()
    best = np.zeros(len(world.cases))
    texts = [text for said in world.documents for text in beginnings(said)]
    for start in range(0, len(texts), _BATCH):
        found = [shingles(text) for text in texts[start : start + _BATCH]]
        known = [np.array([vocabulary[s] for s in f if s in vocabulary], int) for f in found]
        both = (_matrix(known, len(vocabulary)) @ matrix).tocoo()
        n_any = np.array([len(f) for f in found])[both.row] + sizes[both.col] - both.data
        np.maximum.at(best, both.col, both.data / n_any)
    return best


def _matrix(rows: Sequence[np.ndarray[Any, Any]], width: int) -> sparse.csr_matrix:
    ends = np.cumsum([0, *(len(row) for row in rows)])
    columns = np.concatenate(rows)
    ones = np.ones(len(columns), np.int32)
    return sparse.csr_matrix((ones, columns, ends), shape=(len(rows), width))


def compare(folder: Path, rules: ContaminationRules) -> tuple[ContaminationReport, dict[str, Any]]:
    """As the controller does, in a child; with its seconds and its largest memory.

    The child halves the work between two processes of the same size: twice the larger one's memory
    bounds both.
    """
    command = [sys.executable, "-m", "adapters.parity.contamination_process"]
    files = [str(folder / "suite.jsonl"), str(folder / "training.jsonl")]
    busy = os.getloadavg()[0]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *files, json.dumps(rules.to_json())], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = ContaminationReport.from_json(json.loads(done.stdout.splitlines()[-1])["report"])
    return report, {
        "wall_seconds": seconds,
        "load_average_before": busy,
        "n_cores": os.cpu_count(),
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_rss_mib": 2 * used.ru_maxrss / 1024,
        "training_mib": (folder / "training.jsonl").stat().st_size / 1024**2,
    }


def judge(
    world: World, report: ContaminationReport, best: np.ndarray[Any, Any]
) -> list[dict[str, Any]]:
    """Per threshold: cases that are alike by the definition, those reported, and how they meet."""
    said = {leak.case_id: leak.jaccard for leak in report.leaks}
    rows = []
    for row in report.sweep:
        truth = {f"case-{i}" for i in np.flatnonzero(best >= row.jaccard)}
        found = {case_id for case_id, value in said.items() if value >= row.jaccard}
        planted = {f"case-{i}" for i, value in world.planted.items() if value >= row.jaccard}
        rows.append(
            {
                "jaccard": row.jaccard,
                "n_true": len(truth),
                "n_found": row.n_leaked,
                "precision": len(found & truth) / len(found) if found else None,
                "recall": len(found & truth) / len(truth) if truth else None,
                "n_planted": len(planted),
                "n_planted_found": len(planted & found),
            }
        )
    return rows


def main() -> None:
    """Print the figures, write them with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=94_000)
    parser.add_argument("--cases", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # Everything down to the lowest threshold is reported, so that each can be judged.
    rules = ContaminationRules(jaccard=min(ContaminationRules().sweep), max_fraction=1.0)
    world = make_world(options.cases, options.documents, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_world(world, Path(folder))
        report, cost = compare(Path(folder), rules)
    rows = judge(world, report, best_by_definition(world))
    print(
        f"{report.n_documents} documents against {report.n_cases} cases: "
        f"{cost['wall_seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of a core, "
        f"{cost['peak_rss_mib']:.0f} MiB at most; {cost['load_average_before']:.1f} processes "
        f"wanted the {cost['n_cores']} cores before"
    )
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if options.out:
        result = {
            **vars(options), **cost, "banding": rules.banding._asdict(),
            "miss_probability": {t: rules.banding.miss_probability(t) for t in rules.sweep},
            "thresholds": rows, "rules": asdict(rules),
        }  # fmt: skip
        result.pop("out")
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
