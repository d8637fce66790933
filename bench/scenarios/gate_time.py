"""Where a gate's time goes: a 200-case tool-call suite with gold, a trained adapter, a real engine.

The report's own seconds by stage, twice: once from nothing, once evaluated again (what the
standalone side knows by content is not computed twice). Overhead is what neither the engine nor the
standalone model spent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bench.fixtures.adapters import trained_adapter
from bench.fixtures.base_model import smol_base
from bench.fixtures.tool_calls import ACME, held_out_cases, training_cases
from bench.fleet import Fleet, running_fleet

_COMPUTE = (
    "reference",
    "runner",
    "load",
    "candidate",
    "live",
    "noise",
    "verify",
    "continue",
    "judge",
)
_PROFILE = {
    "gpu_slots": 4,
    "cpu_slots": 16,
    "max_rank": 16,
    "max_model_len": 1024,
    "max_num_batched_tokens": 512,
    "enforce_eager": True,
    "kv_cache_gib": 1,
}


def _suite(n_cases: int, max_tokens: int) -> str:
    cases = [*held_out_cases(), *training_cases()][:n_cases]
    return "\n".join(
        json.dumps(
            {
                "id": case.id,
                "messages": [{"role": "user", "content": case.prompt}],
                "max_tokens": max_tokens,
                "segment": f"segment{number % 4}",
                "expect": {"tool_calls": [{"name": case.tool, "arguments": case.arguments}]},
            }
        )
        for number, case in enumerate(cases)
    )


def _row(report: dict[str, Any]) -> dict[str, Any]:
    seconds = report["seconds_by_stage"]
    compute = sum(seconds.get(name, 0.0) for name in _COMPUTE)
    return {
        "verdict": report["verdict"],
        "reasons": report["reasons"],
        "seconds_by_stage": seconds,
        "reused_stages": report["reused_stages"],
        "overhead_ratio": (seconds["total"] - compute) / compute,
        "n_divergences": len(report["divergences"]),
        "numeric": report["numeric"],
        "answer": report["answer"],
        "detectable": report["detectable"],
        "pass_rate": report["task"]["metrics"]["pass_rate"],
    }


def _show(title: str, row: dict[str, Any]) -> None:
    print(f"{title}: {row['verdict']} {[reason['code'] for reason in row['reasons']]}")
    for name, seconds in row["seconds_by_stage"].items():
        note = " (kept from before)" if name in row["reused_stages"] else ""
        print(f"  {name:>10} {seconds:8.1f} s{note}")
    print(f"  overhead beyond engine and standalone model: {row['overhead_ratio']:.2%}")
    print(f"  {row['numeric']['n_tokens']} tokens, agreement {row['numeric']['token_agreement']}")
    print(f"  pass rate {row['pass_rate']}; {row['detectable'] and row['detectable']['sentence']}")


def _measure(fleet: Fleet, adapter: Path, options: argparse.Namespace) -> dict[str, Any]:
    fleet.call("POST", "/v1/tenants", json={"id": "acme"})
    suite = _suite(options.cases, options.max_tokens)
    fleet.call("PUT", "/v1/tenants/acme/suites/tools", content=suite)
    version = fleet.push("acme/support", adapter, suite="tools", promote="manual")
    fleet.wait(version, seconds=3600)
    first = _row(fleet.report(version))
    _show("from nothing", first)
    if options.report:
        options.report.write_text(json.dumps(fleet.report(version)) + "\n")
    rows = {"first": first}
    if not options.once:
        fleet.call("POST", f"{version}/evaluate", json={"reason": "a benchmark's second round"})
        fleet.wait(version, seconds=3600)
        rows["again"] = _row(fleet.report(version))
        _show("again", rows["again"])
    return rows


def main() -> None:
    """Print the stages' seconds; write both rows with `--out`, the report with `--report`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--once", action="store_true", help="no second round")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", type=Path, help="keep the gate's report, too")
    options = parser.parse_args()
    base, adapter = smol_base(), trained_adapter(ACME)
    with tempfile.TemporaryDirectory() as text:
        profile = {**_PROFILE, "dtype": options.dtype}
        with running_fleet(base, Path(text) / "fleet", profile=profile) as fleet:
            rows = _measure(fleet, adapter, options)
    if options.out:
        about = {"cases": options.cases, "max_tokens": options.max_tokens, "profile": profile}
        options.out.write_text(json.dumps({**about, **rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
