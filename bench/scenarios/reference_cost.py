"""What does verifying answers cost the standalone side, against generating them? In one run.

200 tool-call cases (Berkeley Function Calling, written for the tenant's adapter), a trained adapter
on SmolLM2-135M, answers of up to 64 tokens. Ways to know what the standalone model says, each timed
in processor seconds of one thread, so that a busy machine does not matter:

- batched: transformers' own `generate`, 32 prompts of similar length at a time, left-padded;
- one by one: transformers' own `generate`, a prompt at a time, on a few random cases, scaled by
  the number of tokens;
- verify: one teacher-forced pass over prompts with their answers (what the gate does).

Three rounds, each with another third of the cases. Once, at the end: all 200 verified with the
adapter and with the base, and the gate's own batched generation on 32 cases.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters.parity.protocol import (
    BaseFacts,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
)
from bench.fixtures import tool_calls
from bench.fixtures.adapters import trained_adapter
from bench.fixtures.base_model import smol_base

N_CASES, N_ROUNDS, BATCH, MAX_TOKENS, SEED = 200, 3, 32, 64, 0


class Bench:
    """Base and adapter as the standalone side loads them, in this process."""

    def __init__(self, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from adapters.parity.reference import Reference
        from adapters.parity.reference_load import load_strictly

        self.reference = Reference(device="cpu")  # for the prompts' token ids
        self.facts: BaseFacts = self.reference.load_base(str(smol_base()), dtype)
        base: Any = AutoModelForCausalLM.from_pretrained(smol_base(), dtype=getattr(torch, dtype))
        folder = trained_adapter(tool_calls.ACME)
        self.model: Any = load_strictly(base.requires_grad_(False).eval(), folder).model

    def prompts(self) -> list[TokenizedPrompt]:
        cases = [*tool_calls.training_cases(), *tool_calls.held_out_cases()]
        chosen = random.Random(SEED).sample(cases, N_CASES)
        return self.reference.tokenize(
            [
                SuitePrompt(
                    case.id, MAX_TOKENS, messages=[{"role": "user", "content": case.prompt}]
                )
                for case in chosen
            ]
        )

    def generate(self, prompts: Sequence[TokenizedPrompt], *, batch: int) -> dict[str, list[int]]:
        """Greedy answers by transformers' `generate`; prompts of similar length go together."""
        import torch

        stops = set(self.facts.eos_token_ids)
        answers: dict[str, list[int]] = {}
        ordered = sorted(prompts, key=lambda item: len(item.token_ids))
        for begin in range(0, len(ordered), batch):
            rows = ordered[begin : begin + batch]
            width = max(len(item.token_ids) for item in rows)
            pads = [width - len(item.token_ids) for item in rows]
            ids = [[0] * pad + list(r.token_ids) for pad, r in zip(pads, rows, strict=True)]
            mask = [[0] * pad + [1] * (width - pad) for pad in pads]
            done = self.model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                pad_token_id=0,
            )
            for item, tokens in zip(rows, done[:, width:].tolist(), strict=True):
                ends = (i + 1 for i, token in enumerate(tokens) if token in stops)
                answers[item.case_id] = tokens[: next(ends, MAX_TOKENS)]
        return answers

    def generate_ours(self, prompts: Sequence[TokenizedPrompt]) -> dict[str, list[int]]:
        from adapters.parity.reference_generate import Start, generate_greedily

        starts = [Start(item.token_ids, MAX_TOKENS) for item in prompts]
        done = generate_greedily(self.model, starts, stop_ids=set(self.facts.eos_token_ids))
        return {p.case_id: d.token_ids for p, d in zip(prompts, done, strict=True)}

    def verify(self, items: Sequence[VerifyItem]) -> int:
        """Read all answers; returns how many are the model's own to the last token."""
        from adapters.parity.reference_batches import Row
        from adapters.parity.reference_forward import score_rows

        rows = [
            Row(i.prompt_token_ids + i.token_ids[:-1], len(i.prompt_token_ids) - 1, i.token_ids)
            for i in items
        ]
        scored = score_rows(self.model, rows)
        return sum(s.argmax_ids == i.token_ids for s, i in zip(scored, items, strict=True))

    def verify_base(self, items: Sequence[VerifyItem]) -> int:
        """The same without the adapter: the positive control."""
        with self.model.disable_adapter():
            return self.verify(items)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


class Record:
    """The result so far; written after every step: an interrupted run leaves its figures."""

    def __init__(self, bench: Bench, out: Path | None, *, dtype: str, n_alone: int) -> None:
        self.rounds: list[dict[str, float]] = []
        self.facts: dict[str, Any] = {
            "dtype": dtype,
            "n_cases": N_CASES,
            "n_alone_per_round": n_alone,
            "versions": bench.facts.versions,
        }
        self._out = out

    def add(self, **facts: Any) -> None:
        self.facts.update({key: value for key, value in facts.items() if key != "last"})
        print(self.facts["dtype"], facts, flush=True)
        if self._out:
            whole = {**self.facts, "rounds": self.rounds, "ratios": _ratios(self.rounds)}
            self._out.write_text(json.dumps(whole, indent=2) + "\n")


def measure(bench: Bench, record: Record, *, n_alone: int) -> None:
    """Seconds per case of every way and round."""
    prompts = bench.prompts()
    read: list[VerifyItem] = []
    n_own = 0
    for number in range(N_ROUNDS):
        third = prompts[number::N_ROUNDS]
        seconds, answers = _timed(lambda part=third: bench.generate(part, batch=BATCH))
        row = {"batched": seconds / len(third)}
        items = [VerifyItem(p.case_id, p.token_ids, tuple(answers[p.case_id])) for p in third]
        seconds, n_same = _timed(lambda part=items: bench.verify(part))
        row["verify"] = seconds / len(items)
        alone = random.Random(number).sample(third, n_alone)
        seconds, single = _timed(lambda part=alone: bench.generate(part, batch=1))
        n_tokens, n_third = sum(map(len, single.values())), sum(map(len, answers.values()))
        row["one_by_one"] = seconds / n_tokens * n_third / len(third)
        read += items
        n_own += n_same
        record.rounds.append({key: round(value, 4) for key, value in row.items()})
        record.add(n_answers=len(read), n_answers_verified_whole=n_own, last=record.rounds[-1])
    seconds, _ = _timed(lambda: bench.verify(read))
    record.add(
        verify_all_seconds_per_case=round(seconds / len(read), 4),
        mean_prompt_tokens=sum(len(item.prompt_token_ids) for item in read) / len(read),
        mean_answer_tokens=sum(len(item.token_ids) for item in read) / len(read),
    )
    seconds, _ = _timed(lambda: bench.verify_base(read))
    record.add(verify_base_seconds_per_case=round(seconds / len(read), 4))
    seconds, ours = _timed(lambda: bench.generate_ours(prompts[:BATCH]))
    by_case = {item.case_id: list(item.token_ids) for item in read}
    n_equal = sum(by_case[key] == tokens for key, tokens in ours.items())
    record.add(ours_seconds_per_case=round(seconds / len(ours), 4), n_ours_equal=n_equal)


def _ratios(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, smallest and largest over rounds, of each way's cost over verification's."""
    ratios = {}
    for way in ("one_by_one", "batched"):
        values = [row[way] / row["verify"] for row in rounds]
        ratios[way] = {
            "median": round(statistics.median(values), 2),
            "min": round(min(values), 2),
            "max": round(max(values), 2),
        }
    return ratios


def main() -> None:
    """Print the ratios; write the JSON with `--out`."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--alone", type=int, default=2, help="cases a round, one by one")
    options = parser.parse_args()
    # One thread: with more, threads that wait for one another on a busy machine are timed too.
    torch.set_num_threads(1)
    bench = Bench(options.dtype)
    record = Record(bench, options.out, dtype=options.dtype, n_alone=options.alone)
    measure(bench, record, n_alone=options.alone)
    for way, ratio in _ratios(record.rounds).items():
        print(f"{way:>12}: {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})")


if __name__ == "__main__":
    main()
