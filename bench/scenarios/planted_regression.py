"""A planted regression on a real engine: one segment of 47 cases in 1,200 goes wrong, no more.

A tiny base learns to answer each segment's questions with one word. Version 1, live, is wrong in
segment `shipping`. Version 2 is right there and wrong in `refund_flow` instead: as many cases, so
the total is the same, and it must FAIL for that segment. Version 3 is version 1 with a little noise
on its weights: some answers change, and it must not FAIL.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.base_model import DEFAULT_TARGET_MODULES
from bench.fixtures.base_model import tiny_base
from bench.fleet import Fleet, running_fleet

_PLANTED, _ONCE_WRONG = "refund_flow", "shipping"
_OTHERS = (
    "billing", "returns", "tracking", "invoices", "warranty", "accounts", "passwords", "delivery",
    "discounts", "coupons", "addresses", "payments", "orders", "contracts",
)  # fmt: skip
_SIZES: Mapping[str, int] = {_PLANTED: 47, _ONCE_WRONG: 47, **dict.fromkeys(_OTHERS, 79)}
_WORDS = (
    "red", "blue", "green", "white", "black", "north", "south", "east", "west", "gold", "iron",
    "stone", "water", "fire", "wood", "paper",
)  # fmt: skip
_RIGHT = dict(zip(_SIZES, _WORDS, strict=True))
_NOISES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
"""Of each tensor's own spread."""
_STEPS, _BATCH, _RANK = 200, 32, 16
_PROFILE = {
    "dtype": "float32",
    "gpu_slots": 4,
    "cpu_slots": 16,
    "max_rank": 16,
    "max_model_len": 128,
    "max_num_batched_tokens": 512,
    "enforce_eager": True,
    "kv_cache_gib": 1,
}


def _prompt(segment: str, number: int) -> str:
    return f"Question {number} about {segment}. The word is"


def _suite() -> str:
    lines = [
        {
            "id": f"{segment}-{number}",
            "prompt": _prompt(segment, number),
            "segment": segment,
            "max_tokens": 3,
            "expect": {"text": f" {_RIGHT[segment]}"},
        }
        for segment, n in _SIZES.items()
        for number in range(n)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _wrong_in(segment: str) -> dict[str, str]:
    return {**_RIGHT, segment: "wrong"}


def _train(base: Path, words: Mapping[str, str], folder: Path, *, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(
        r=_RANK, lora_alpha=32, target_modules=list(DEFAULT_TARGET_MODULES), task_type="CAUSAL_LM"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    weights = [item for item in model.parameters() if item.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=_STEPS)
    order = random.Random(seed)
    model.train()
    for step in range(_STEPS):
        rows = []
        for _ in range(_BATCH):
            segment = order.choice(list(words))
            head = tokenizer(_prompt(segment, order.randrange(100))).input_ids
            tail = tokenizer(f" {words[segment]}{tokenizer.eos_token}").input_ids
            rows.append((head, tail))
        loss = _loss(model, rows, pad=tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"  step {step + 1}: loss {float(loss.detach()):.4f}", flush=True)
    model.eval()
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def _loss(model: Any, rows: list[tuple[list[int], list[int]]], *, pad: int) -> Any:
    """Cross entropy of the answers' tokens; the output layer sees no other position."""
    import torch

    width = max(len(head) + len(tail) for head, tail in rows)
    ids = torch.full((len(rows), width), pad)
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    for index, (head, tail) in enumerate(rows):
        ids[index, : len(head) + len(tail)] = torch.tensor(head + tail)
        places += [(index, len(head) - 1 + offset) for offset in range(len(tail))]
        targets += tail
    causal = model.get_base_model()
    hidden = causal.model(input_ids=ids).last_hidden_state
    row, column = (torch.tensor(axis) for axis in zip(*places, strict=True))
    return torch.nn.functional.cross_entropy(
        causal.lm_head(hidden[row, column]), torch.tensor(targets)
    )


def _shake(source: Path, folder: Path, *, scale: float) -> None:
    """A copy whose weights carry Gaussian noise, relative to each tensor's own spread."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(7)
    path = folder / "adapter_model.safetensors"
    shaken = {
        name: tensor + scale * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(path).items()
    }
    save_file(shaken, path, metadata={"format": "pt"})


def _calm_noise(base: Path, source: Path, folder: Path) -> tuple[float, int]:
    """Write the copy with the least noise of a few that changes answers; (scale, how many)."""
    before = _answers(base, source)
    for scale in _NOISES:
        shutil.rmtree(folder, ignore_errors=True)
        _shake(source, folder, scale=scale)
        n_changed = sum(a != b for a, b in zip(before, _answers(base, folder), strict=True))
        if n_changed:
            return scale, n_changed
    raise SystemExit("no noise changes an answer")


def _answers(base: Path, adapter: Path) -> list[int]:
    """The first greedy token of every case, by the standalone model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    causal: Any = PeftModel.from_pretrained(bare, adapter).eval().get_base_model()
    found = []
    for segment, n in _SIZES.items():
        rows = [tokenizer(_prompt(segment, number)).input_ids for number in range(n)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        last = torch.tensor([len(row) - 1 for row in rows])
        with torch.inference_mode():
            hidden = causal.model(input_ids=ids).last_hidden_state[torch.arange(n), last]
            found += causal.lm_head(hidden).argmax(-1).tolist()
    return found


def _show(name: str, report: dict[str, Any]) -> dict[str, Any]:
    live = (report["task"] or {}).get("live") or {}
    total = live.get("total") or {}
    print(f"{name}: {report['verdict']}")
    for reason in report["reasons"]:
        print(f"  {reason['code']}: {reason['text']}")
    row = {
        "version": name,
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "notes": report["notes"],
        "live_total": total,
        "live_segments": live.get("segments"),
        "seconds_by_stage": report["seconds_by_stage"],
        "detectable": report["detectable"],
    }
    if total:
        print(
            f"  total against live: {total['before_rate']:.2%} -> {total['after_rate']:.2%}, "
            f"{total['n_worse']} worse, {total['n_better']} better"
        )
    return row


def _measure(
    fleet: Fleet, folders: Mapping[str, Path], reports: Path | None
) -> list[dict[str, Any]]:
    fleet.call("POST", "/v1/tenants", json={"id": "acme"})
    fleet.call("PUT", "/v1/tenants/acme/suites/topics", content=_suite())
    rows = []
    for name, folder in folders.items():
        mode = "auto" if name == "live" else "manual"
        version = fleet.push("acme/support", folder, suite="topics", promote=mode)
        fleet.wait(version, seconds=1800)
        report = fleet.report(version)
        rows.append(_show(name, report))
        if reports is not None:
            reports.mkdir(parents=True, exist_ok=True)
            (reports / f"{name}.json").write_text(json.dumps(report) + "\n")
    return rows


def main() -> None:
    """Print the verdicts; exit 1 unless only the planted one FAILs, and by name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--reports", type=Path, help="keep the gate's reports in this folder")
    options = parser.parse_args()
    base = tiny_base()
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        folders = {name: root / name for name in ("live", "planted", "noisy")}
        _train(base, _wrong_in(_ONCE_WRONG), folders["live"], seed=1)
        _train(base, _wrong_in(_PLANTED), folders["planted"], seed=2)
        scale, n_changed = _calm_noise(base, folders["live"], folders["noisy"])
        print(f"noise of {scale:g} of each tensor's spread changes {n_changed} answers")
        with running_fleet(base, root / "fleet", profile=_PROFILE) as fleet:
            rows = _measure(fleet, folders, options.reports)
    if options.out:
        options.out.write_text(
            json.dumps(
                {"sizes": _SIZES, "noise": scale, "n_changed": n_changed, "rows": rows}, indent=2
            )
            + "\n"
        )
    _, planted, noisy = rows
    named = [reason for reason in planted["reasons"] if _PLANTED in reason["text"]]
    is_found = planted["verdict"] == "FAIL" and len(named) == len(planted["reasons"]) == 1
    if not is_found or noisy["verdict"] == "FAIL":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
