"""What does verifying answers cost the standalone side, against generating them?

Tool-call cases (Berkeley Function Calling, written for the tenant's adapter), a trained adapter on
SmolLM2-135M, answers of up to 64 tokens. Ways to know what the standalone model says, each timed
in processor seconds of one thread, so that a busy machine does not matter:

- batched: transformers' own `generate`, 32 prompts of similar length at a time, left-padded;
- one by one: transformers' own `generate`, a prompt at a time, on a few random cases, scaled by
  the number of tokens;
- verify: one teacher-forced pass over prompts with their answers (what the gate does);
- verify the base: the same without the adapter, the positive control (kept by content);
- ours, batched: the gate's own generation, used from a first divergence on.

A run has another fifth of the cases. All ways read the whole prompt; the tokens with which all
these prompts begin are read once by `verify` alone. A suite of one agent, where system prompt and
tools are the same for all cases, shares far more; one of long prompts with short answers and
nothing in common shares less, and there verification gains less. Where an answer is not confirmed
whole, generation and one pass multiply in other shapes and rounding decided a near-tie: such cases
are what the gate generates again. Not measured on a GPU.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from adapters.parity.protocol import (
    BaseFacts,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
)
from bench.figure_table import print_figures, progress_line
from bench.fixtures import tool_calls
from bench.fixtures.adapters import trained_adapter
from bench.fixtures.base_model import smol_base
from bench.result import Figure, write_result

QUESTION = "What does verifying answers cost the standalone side, against generating them?"
WAYS = {
    "verify": "verify",
    "verify_base": "verify the base",
    "batched": "generate in batches",
    "ours": "generate in batches, ours",
    "one_by_one": "generate one by one",
}
BATCH, MAX_TOKENS, SEED = 32, 64, 0
Json = dict[str, float]


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

    def prompts(self, n_cases: int) -> list[TokenizedPrompt]:
        cases = [*tool_calls.training_cases(), *tool_calls.held_out_cases()]
        chosen = random.Random(SEED).sample(cases, n_cases)
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


def measure_run(bench: Bench, part: Sequence[TokenizedPrompt], *, seed: int, n_alone: int) -> Json:
    """Processor seconds a case of every way, on these cases, and what was confirmed."""
    seconds, answers = _timed(lambda: bench.generate(part, batch=BATCH))
    row: Json = {"batched": seconds / len(part)}
    items = [VerifyItem(p.case_id, p.token_ids, tuple(answers[p.case_id])) for p in part]
    seconds, n_same = _timed(lambda: bench.verify(items))
    row["verify"] = seconds / len(items)
    seconds, _ = _timed(lambda: bench.verify_base(items))
    row["verify_base"] = seconds / len(items)
    alone = random.Random(seed).sample(part, min(n_alone, len(part)))
    seconds, single = _timed(lambda: bench.generate(alone, batch=1))
    n_tokens, n_part = sum(map(len, single.values())), sum(map(len, answers.values()))
    row["one_by_one"] = seconds / n_tokens * n_part / len(part)
    some = part[:BATCH]
    seconds, ours = _timed(lambda: bench.generate_ours(some))
    row["ours"] = seconds / len(some)
    n_equal = sum(list(answers[key]) == list(tokens) for key, tokens in ours.items())
    return row | {
        "confirmed": n_same / len(items),
        "ours_equal": n_equal / len(some),
        "prompt_tokens": sum(len(item.prompt_token_ids) for item in items) / len(items),
        "answer_tokens": n_part / len(items),
    }


def figures_of(rows: Sequence[Json]) -> list[Figure]:
    """Costs, their ratios to verification run by run, and the shares that were confirmed."""
    figures = []
    for key, way in WAYS.items():
        values = tuple(row[key] for row in rows)
        figures.append(Figure("processor time a case", "s", values, "lower", way))
        ratios = tuple(row[key] / row["verify"] for row in rows)
        figures.append(Figure("times verification", "x", ratios, None, way))
    for key, name, unit in (
        ("confirmed", "answers confirmed to the last token", "share"),
        ("ours_equal", "our answers equal to transformers'", "share"),
        ("prompt_tokens", "tokens of a prompt", ""),
        ("answer_tokens", "tokens of an answer", ""),
    ):
        figures.append(Figure(name, unit, tuple(row[key] for row in rows), None, "cases"))
    return figures


def main() -> None:
    """Print the table; write the result with `--write`."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two runs of four cases")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--cases", type=int, default=100, help="of all runs together")
    parser.add_argument("--alone", type=int, default=2, help="cases a run, one by one")
    options = parser.parse_args()
    n_runs, n_cases = (2, 8) if options.quick else (options.runs, options.cases)
    n_alone = 1 if options.quick else options.alone
    trained_adapter(tool_calls.ACME)  # Trained the first time, with all threads.
    # One thread: with more, threads that wait for one another on a busy machine are timed too.
    torch.set_num_threads(1)
    rows = []
    with progress_line("loading the base", n_steps=n_runs) as say:
        bench = Bench(options.dtype)
        prompts = bench.prompts(n_cases)
        for number in range(n_runs):
            say.now(f"run {number + 1} of {n_runs}, {options.dtype}")
            part = prompts[number::n_runs]
            rows.append(measure_run(bench, part, seed=number, n_alone=n_alone))
            say.step("next")
    figures = figures_of(rows)
    print_figures(f"{QUESTION} {options.dtype}", figures)
    if options.write:
        write_result(
            "reference_cost", question=QUESTION, figures=figures, variant=options.dtype,
            parameters={"dtype": options.dtype, "cases": n_cases, "one by one a run": n_alone},
            raw={"runs": rows, "versions": bench.facts.versions},
        )  # fmt: skip


if __name__ == "__main__":
    main()
