"""`loraplane top` and `loraplane capacity` against a real controller and a real trace route."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from serving.cli.main import main
from serving.contract import AdapterCounts, engine_token
from serving.controller.app import create_app
from tests.builders.controller import ADMIN, SECRET, a_report, a_server, bearer, settings_in
from tests.fakes.trace_server import Ring, served_ring

NAMES = [f"acme/a@{n}" for n in range(1, 7)]


def run(*arguments: str | Path) -> int:
    try:
        main([str(item) for item in arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A controller that has read six adapters' requests, 100 each, in turn."""
    folder = tmp_path_factory.mktemp("controller")
    app = create_app(settings_in(folder, capacity_poll_seconds=0.05))
    with served_ring(SECRET, Ring()) as ring, a_server(app) as url:
        ring.admit(*NAMES * 100, at=time.time() - 1200)
        counts = [AdapterCounts(name=name, requests=100, ttft=[100] + [0] * 11) for name in NAMES]
        report = a_report(
            url=ring.url, counts=counts, active=NAMES[:3], pinned=NAMES[:1], hot={"1m": 6},
            trace_position=len(ring.events),
        )  # fmt: skip
        told = httpx.post(
            f"{url}/internal/v1/engines/engine-0/report",
            content=msgspec.json.encode(report),
            headers=bearer(engine_token(SECRET)),
        )
        assert told.status_code == 204
        wait_until_read(url)
        yield url


def wait_until_read(url: str) -> None:
    for _ in range(400):
        shown = httpx.get(f"{url}/v1/capacity", headers=bearer(ADMIN)).json()
        if shown["engines"][0]["trace"]["lag_events"] == 0:
            return
        time.sleep(0.05)
    raise AssertionError("the trace was never read")


@pytest.fixture(autouse=True)
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAPLANE_URL", url)
    monkeypatch.setenv("LORAPLANE_TOKEN", ADMIN)


def test_capacity_draws_the_curve_and_recommends_slots(capsys: Any) -> None:
    assert run("capacity", "--target-miss-ratio", "0.02") == 0

    said = capsys.readouterr().out
    assert "600 requests in the last 1h" in said
    assert "T: today, R: recommended" in said
    assert "goal: at most 2 % misses" in said
    (row,) = [line for line in said.splitlines() if "│ recommended" in line]
    assert [cell.strip() for cell in row.split("│")][3] == "6"


def test_a_goal_that_no_slots_reach_ends_with_1(capsys: Any) -> None:
    assert run("capacity", "--target-miss-ratio", "0.001") == 1

    assert "cannot be reached" in capsys.readouterr().out


def test_capacity_as_json_has_plan_and_curve(capsys: Any) -> None:
    assert run("capacity", "--window", "24h", "--json") == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["plan"]["recommended"]["gpu_slots"] == 6
    assert answer["curve"]["n_requests"] == 600


def test_residency_is_switched(capsys: Any) -> None:
    assert run("capacity", "residency", "off", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"mode": "off", "wishes": {}}
    assert run("capacity", "residency", "auto") == 0
    assert "residency: auto" in capsys.readouterr().out


def test_a_trace_is_saved_whole_or_not_at_all(tmp_path: Path, capsys: Any) -> None:
    assert run("capacity", "trace", "engine-0", "--out", tmp_path / "trace.jsonl") == 0
    assert run("capacity", "trace", "engine-9", "--out", tmp_path / "none.jsonl") == 1

    lines = (tmp_path / "trace.jsonl").read_text().splitlines()
    assert [json.loads(line)["position"] for line in lines] == list(range(1200))
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]


def test_top_shows_slots_and_the_busiest_adapters_once(capsys: Any) -> None:
    assert run("top", "--once", "--rows", "2") == 0

    said = capsys.readouterr().out
    assert "engine-0 slots: acme/a@3  acme/a@2  acme/a@1*" in said
    assert "busiest 2 of 6 versions" in said
    assert "12 ms" in said
    assert "acme/a@4" not in said


def test_top_as_json_keeps_its_shape(capsys: Any) -> None:
    assert run("top", "--json") == 0

    counts = json.loads(capsys.readouterr().out)
    assert counts["acme/a@1"]["requests"] == 100


def test_live_top_ends_quietly_on_ctrl_c() -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.cli", "top", "--interval", "0.1"],
        stdout=its,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(its)
    # It is in its loop once something of the first look was written.
    assert os.read(ours, 1)
    process.send_signal(signal.SIGINT)
    drain = threading.Thread(target=read_all, args=(ours,), daemon=True)
    drain.start()
    _, complaint = process.communicate(timeout=60)
    drain.join(timeout=60)
    os.close(ours)

    assert (process.returncode, complaint) == (0, "")


def read_all(terminal: int) -> None:
    """A terminal that nobody reads from stops whoever writes to it."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
