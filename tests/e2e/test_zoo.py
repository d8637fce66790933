"""A small part of the zoo on the shared engine; `python -m bench.zoo` sends all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.zoo.outcome import Place
from bench.zoo.pipeline import Pipeline
from bench.zoo.rows import Row, Task
from bench.zoo.run import send_all
from bench.zoo.stock import Stock
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

_RANK = 16
BAD = {
    "prefix_one_level_short": (Place.PREFLIGHT, False),
    "layers_shifted_by_one": (Place.PREFLIGHT, False),
    "archive_leaves_its_folder": (Place.UPLOAD, False),
    "alpha_changed_after_training": (Place.FINGERPRINT, True),
    "rslora_flag_lost": (Place.FINGERPRINT, True),
    "sign_of_b_flipped": (Place.FINGERPRINT, True),
    "base_of_the_same_shape": (Place.FINGERPRINT, True),
    "huge_but_finite": (Place.STANDALONE, False),
    "b_almost_zero": (Place.ENGINE, False),
}
"""Each is stopped by another link; with a fingerprint where only that can name it."""
GOOD = ("rank-4", "rslora-8", "rank-pattern-small", "queries-and-values")


def test_bad_adapters_are_stopped_by_the_cheapest_link_and_good_ones_pass(
    fleet: Fleet, tenant: str, tmp_path: Path
) -> None:
    pipeline = Pipeline(fleet.controller_url, fleet.admin_token, tenant)
    pipeline.open()
    tasks = [Task("tiny", "float32", name, _RANK, proof) for name, (_, proof) in BAD.items()]
    tasks += [Task("tiny", "float32", name, 0, number == 0) for number, name in enumerate(GOOD)]
    rows: list[Row] = []

    send_all(tasks, stock=Stock("tiny"), pipeline=pipeline, work=tmp_path, on_row=rows.append)

    assert [row.complaint for row in rows if row.complaint] == []
    stopped = {row.task.kind: row.outcome.place for row in rows if row.task.is_bad}
    assert stopped == {name: place for name, (place, _) in BAD.items()}
    assert {row.outcome.verdict for row in rows if not row.task.is_bad} == {"PASS"}
