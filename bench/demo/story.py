"""What happens in the demo, scene by scene; each scene returns facts for the summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.demo.stage import FOLDER, Answer, Stage, ask, expect
from bench.demo.traffic import Traffic
from bench.fixtures.adapters import trained_adapter
from bench.fixtures.corruptions import with_changed_alpha, with_prefix_off_by_one
from bench.fixtures.tool_calls import (
    ACME,
    ACME_V2,
    HOUSES,
    WEATHER,
    House,
    is_in_style,
    write_suite,
)

Facts = dict[str, Any]
FIRST = "acme/support@1"
_ROUNDS = 3
_SUITE = FOLDER / "held-out.jsonl"
_N_CASES = 8
"""Enough for a verdict, few enough for two cores; the built-in probe has 24, and longer answers."""


def push_and_go_live(stage: Stage, console: Console) -> Facts:
    """Three tenants, a key each, and their first version live."""
    facts: Facts = {}
    write_suite(_SUITE, None, n_cases=_N_CASES, max_tokens=20)
    for house in HOUSES:
        stage.must("tenant", "create", house.tenant, "--json")
        key = stage.must("key", "create", house.tenant, "--name", "demo", "--json").output
        stage.keys[house.tenant] = key["key"]
        console.print(f"[bold]{house.name}[/bold]: loraplane push --wait")
        stage.must(*_push(house, trained_adapter(house)), "--wait", shows_progress=True)
        version, reasons = stage.version(f"{house.name}@1"), _reasons(stage, f"{house.name}@1")
        expect(version["state"] == "live", f"{house.name}@1 goes live")
        facts[house.tenant] = {
            "version": f"{house.name}@1",
            "verdict": version.get("verdict"),
            "reasons": reasons,
        }
    return facts


def each_key_has_its_style(stage: Stage, console: Console) -> Facts:
    """One question, three keys, three styles; streamed and not."""
    table = Table("tenant", "resolved model", "answer", title="one question, three keys")
    facts: Facts = {}
    for house in HOUSES:
        client = stage.client(house.tenant)
        whole = ask(client, house.adapter, WEATHER.prompt)
        streamed = ask(client, house.adapter, WEATHER.prompt, stream=True)
        expect(whole == streamed, f"{house.name} says the same streamed and not")
        expect(is_in_style(house, whole.text), f"{house.name} in its own style, not {whole.text!r}")
        expect(whole.model == f"{house.name}@1", f"the answer names {house.name}@1")
        table.add_row(house.tenant, whole.model, escape(whole.text))
        facts[house.tenant] = {"answer": whole.text, "model": whole.model}
    console.print(table)
    return facts


def a_foreign_adapter_is_not_found(stage: Stage, console: Console) -> Facts:
    """Another tenant's adapter and one that never existed look the same."""
    foreign = stage.status_of("acme", "globex/agent")
    unknown = stage.status_of("acme", "globex/nothing")
    expect(foreign[0] == 404, f"acme's key on globex/agent is 404, not {foreign[0]}")
    expect(_shape(foreign) == _shape(unknown), "foreign and unknown look the same")
    console.print(f"acme's key on globex/agent: {foreign[0]}, as for a name that never existed")
    return {"foreign": foreign[0], "unknown": unknown[0]}


def broken_copies_are_refused(stage: Stage, console: Console) -> Facts:
    """Two exports that went wrong after training; raw vLLM serves both."""
    good, folder = trained_adapter(ACME), FOLDER / "broken"
    folder.mkdir()
    broken: dict[str, Callable[[Path, Path], Path]] = {
        "alpha changed after training": with_changed_alpha,
        "module prefix off by one level": with_prefix_off_by_one,
    }
    facts: Facts = {}
    for index, (what, damage) in enumerate(broken.items()):
        copy = damage(good, folder / str(index))
        words = ["push", str(copy), "--tenant", "acme", "--adapter", "broken"]
        ran = stage.loraplane(*words, "--wait", "--json")
        expect(
            ran.code == 1, f"{what}: refused with exit code 1, not {ran.code}: {ran.said[-500:]}"
        )
        why = _why(ran.output)
        expect(bool(why), f"{what}: the refusal says why")
        console.print(
            f"{what}: [red]{ran.output.get('state')}[/red] {escape('; '.join(why)[:300])}"
        )
        facts[what] = {"state": ran.output.get("state"), "reasons": why}
    live = ask(stage.client("acme"), "support", WEATHER.prompt)
    expect(live.model == FIRST, "the live version is untouched by refused ones")
    return facts


def the_second_version_takes_over_under_traffic(stage: Stage, console: Console) -> Facts:
    """Version 2 is proven, then promoted while clients ask without a pause."""
    pushed = stage.must(
        *_push(ACME_V2, trained_adapter(ACME_V2)), "--promote", "manual", "--wait", "--json"
    ).output
    second = f"acme/support@{pushed['version']}"
    with Traffic(stage, "acme", "support", WEATHER.prompt) as traffic:
        traffic.wait_for(FIRST)
        console.print(f"{second} {pushed['state']}; promoting it under traffic")
        stage.must("promote", second, "--wait", shows_progress=True)
        traffic.wait_for(second)
    known = {name: _known_answer(stage, name).text for name in (FIRST, second)}
    counts, mixed = traffic.by_version(), traffic.mixed(known)
    expect(is_in_style(ACME_V2, known[second]), f"version 2 in its style, not {known[second]!r}")
    expect(traffic.errors == [], f"no request fails: {traffic.errors[:3]}")
    expect(mixed == [], f"each answer is that of the version it names: {mixed[:3]}")
    expect(counts[FIRST] > 0 and counts[second] > 0, f"both versions answered: {counts}")
    console.print(f"{dict(counts)}: 0 failed, 0 mixed")
    return {"requests": dict(counts), "failed": 0, "mixed": 0, "second": second, "answers": known}


def more_adapters_than_slots(stage: Stage, console: Console) -> Facts:
    """Four versions on three slots, in turn; what the engine's own caches counted."""
    before = stage.counts()
    models = [("acme", "support"), ("globex", "agent"), ("initech", "helper"), ("acme", FIRST)]
    for _ in range(_ROUNDS):
        for tenant, model in models:
            ask(stage.client(tenant), model, WEATHER.prompt)
    after = _settled_counts(stage)
    table = Table("version", "requests", "loads", "evicted from slot", "evicted from memory")
    for name, row in sorted(after.items()):
        loads = row["loads_disk"] + row["loads_cache"]
        cells = (row["requests"], loads, row["evictions_slot"], row["evictions_cache"])
        table.add_row(name, *map(str, cells))
    console.print(table)
    evictions = _total(after, "evictions_slot") - _total(before, "evictions_slot")
    expect(evictions > 0, "four versions on three slots evict each other")
    return {"evictions": evictions, "by_version": after, "hot_adapters": _hot(stage)}


def roll_back(stage: Stage, console: Console) -> Facts:
    """One alias move; version 1 answers again."""
    stage.must("rollback", "acme/support", "--json")
    with Traffic(stage, "acme", "support", WEATHER.prompt, n_clients=1) as traffic:
        traffic.wait_for(FIRST, n=1)
    answer = ask(stage.client("acme"), "support", WEATHER.prompt)
    expect(answer.model == FIRST, f"after the rollback {FIRST} answers, not {answer.model}")
    expect(is_in_style(ACME, answer.text), f"in the first style, not {answer.text!r}")
    console.print(f"{answer.model}: {escape(answer.text)}")
    return {"model": answer.model, "answer": answer.text}


SCENES: tuple[tuple[str, str, Callable[[Stage, Console], Facts]], ...] = (
    ("push", "three tenants push and go live", push_and_go_live),
    ("style", "each key's answer shows its own style", each_key_has_its_style),
    ("isolation", "a foreign adapter is not found", a_foreign_adapter_is_not_found),
    ("refused", "broken copies are refused", broken_copies_are_refused),
    ("switch", "version 2 under traffic", the_second_version_takes_over_under_traffic),
    ("evictions", "more adapters than slots", more_adapters_than_slots),
    ("rollback", "rollback", roll_back),
)


def _push(house: House, folder: Path) -> list[str]:
    words = ["push", str(folder), "--tenant", house.tenant, "--adapter", house.adapter]
    return [*words, "--suite", str(_SUITE)]


def _known_answer(stage: Stage, name: str) -> Answer:
    return ask(stage.client("acme"), name, WEATHER.prompt)


def _reasons(stage: Stage, name: str) -> list[str]:
    report = stage.must("report", name, "--json").output
    first = [report["first_line"]] if report.get("first_line") else []
    return first + [f"{item['code']}: {item['text']}" for item in report.get("reasons") or []]


def _why(version: Facts) -> list[str]:
    """Blocking findings and the gate's reasons of a version as `push --json` shows it."""
    # Many modules share one kind of finding: each kind once.
    findings = dict.fromkeys(
        f"{item['code']}: {item.get('meaning', '')}"
        for item in version.get("findings") or []
        if item.get("severity") == "blocking"
    )
    reasons = [f"{item['code']}: {item['text']}" for item in version.get("reasons") or []]
    return [*findings, *reasons]


def _shape(answer: tuple[int, Facts]) -> Any:
    status, body = answer
    error = {key: value for key, value in body.get("error", {}).items() if key != "message"}
    return status, error


def _settled_counts(stage: Stage) -> dict[str, dict[str, int]]:
    # An engine reports every two seconds: ask until two answers in a row agree.
    last = stage.counts()
    for _ in range(10):
        time.sleep(2.5)
        now = stage.counts()
        if now == last:
            return now
        last = now
    return last


def _hot(stage: Stage) -> dict[str, int]:
    engines: Any = stage.must("engines", "--json").output
    return dict(engines[0]["report"].get("hot") or {})


def _total(counts: dict[str, dict[str, int]], name: str) -> int:
    return sum(row[name] for row in counts.values())
