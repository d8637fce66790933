"""The Prometheus rules: valid, tried by promtool, and about metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.capacity.plan_words import THRASH_RATIO
from tests.builders.exposed_metrics import controller_metrics, engine_metrics, series_labels
from tests.builders.promql import grouping_labels, metric_names, unknown_labels

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "helm" / "loraplane" / "rules").glob("*.yaml"))
TRIALS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
PAGE = ROOT / "docs" / "alerts.md"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on this machine: apt-get install prometheus"
)


def rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def known_series() -> dict[str, frozenset[str]]:
    """Of the code and of the recording rules."""
    known = series_labels([*controller_metrics(), *engine_metrics()])
    for rule in rules():
        if "record" in rule:
            known[rule["record"]] = frozenset(grouping_labels(rule["expr"]))
    return known


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    result = promtool("check", "rules", *map(str, RULES))

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
@pytest.mark.parametrize("trial", TRIALS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_say_so(trial: Path) -> None:
    result = promtool("test", "rules", str(trial))

    assert result.returncode == 0, result.stdout + result.stderr


def trials() -> Iterator[tuple[str, bool]]:
    """(alert, whether it must fire) of each promtool test."""
    for path in TRIALS:
        for trial in yaml.safe_load(path.read_text())["tests"]:
            for wanted in trial.get("alert_rule_test", []):
                yield wanted["alertname"], bool(wanted["exp_alerts"])


def test_every_alert_is_tried_in_need_and_in_peace() -> None:
    tried = set(trials())

    names = {rule["alert"] for rule in alerts()}
    assert {(name, kind) for name in names for kind in (True, False)} - tried == set()
    assert {name for name, _ in tried} == names
    assert len(names) == len(alerts())


def test_every_metric_and_label_of_a_rule_exists() -> None:
    known = known_series()
    named = {name for rule in rules() for name in metric_names(rule["expr"])}

    assert named - known.keys() == set()
    strange = {
        str(rule.get("alert") or rule.get("record")): labels
        for rule in rules()
        if (labels := unknown_labels(rule["expr"], known))
    }
    assert strange == {}


def test_every_alert_says_what_it_is_about_and_how_urgent() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        notes = rule["annotations"]
        assert notes["summary"]
        assert notes["description"].endswith("."), rule["alert"]
        assert len(notes["description"]) > len(notes["summary"]), rule["alert"]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    sections = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)

    wanted = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in alerts()}
    assert wanted == {name: f"docs/alerts.md#{name.lower()}" for name in sections}
    assert len(sections) == len(set(sections))


def test_label_values_that_an_alert_picks_are_counted_from_the_start() -> None:
    """Where a rule waits for the increase of one value, its series must begin at zero."""
    from prometheus_client import CollectorRegistry

    from serving.controller.metrics import ControllerMetrics
    from serving.controller.steps.metrics import StepMetrics
    from serving.engine.metrics import EngineMetrics

    controller, engine = ControllerMetrics(), CollectorRegistry()
    StepMetrics(controller.registry)
    EngineMetrics(gpu_slots=1, clock=lambda: 0.0).register(engine)
    picked = {
        found
        for rule in rules()
        for found in re.findall(
            r'increase\((loraplane_[a-z_]+)\{(verdict|outcome|step)="([^"]+)"\}', rule["expr"]
        )
    }

    assert picked
    for name, label, value in picked:
        samples = [r.get_sample_value(name, {label: value}) for r in (controller.registry, engine)]
        assert 0.0 in samples, (name, value)


def test_the_alert_and_the_plan_call_the_same_ratio_thrash() -> None:
    (thrash,) = (rule for rule in alerts() if rule["alert"] == "LoraplaneThrash")

    assert f"ratio_rate5m > {THRASH_RATIO}\n" in thrash["expr"]


def test_settings_that_the_runbooks_name_exist() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    pages = [PAGE, ROOT / "docs" / "metrics.md", *RULES]
    named = {name for page in pages for name in re.findall(r"LORAPLANE_[A-Z_]+", page.read_text())}

    assert len(named) > 5
    assert {name for name in named if name not in settings} == set()


def test_commands_that_the_runbooks_name_exist() -> None:
    helped = (ROOT / "tests" / "golden" / "files" / "cli.txt").read_text()
    commands = set(re.findall(r"^loraplane ([a-z ]+):", helped, re.MULTILINE))
    commands |= {command.split()[0] for command in commands}
    named = set(re.findall(r"`loraplane ([a-z]+(?: [a-z]+)?)", PAGE.read_text()))

    assert len(named) > 5
    assert named - commands == set()
