"""A search's record: on the disk, gone on with, and refused where it is of something else."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from serving.tuning.journal import (
    FILE,
    JournalBroken,
    JournalBusy,
    JournalOfOther,
    open_journal,
    read_events,
)
from serving.tuning.search import Costs
from serving.tuning.space import Setting

SUBJECT = {"base": "a", "versions": {"vllm": "0.32"}, "seed": 0}
ASSUMED = Costs(50.0, 30.0)
SETTING = Setting(max_num_batched_tokens=128)


def one_round(number: int, **values: float) -> dict[str, object]:
    return {
        "event": "round", "setting": SETTING.to_json(), "number": number, "seconds": 20.0,
        "values": values,
    }  # fmt: skip


def test_a_record_is_gone_on_with_after_its_writer_is_gone(tmp_path: Path) -> None:
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append({"event": "start", "setting": SETTING.to_json(), "seconds": 40.0})
        journal.append(one_round(0, gap_p99=120.0))

    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(1, gap_p99=130.0))
        state = journal.state(ASSUMED)

    assert [one.values["gap_p99"] for one in state.rounds] == [120.0, 130.0]
    assert state.spent_seconds == 80.0
    assert state.costs == Costs(40.0, 20.0)


def test_what_was_not_measured_stays_so(tmp_path: Path) -> None:
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(0, capacity=math.nan))

        (found,) = journal.state(ASSUMED).rounds

    assert math.isnan(found.values["capacity"])


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(0, gap_p99=1.0))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"event": "round", "sett')

    assert len(read_events(tmp_path)) == 1
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(1, gap_p99=2.0))

    assert [event["number"] for event in read_events(tmp_path)] == [0, 1]


def test_rounds_of_another_base_or_version_are_refused_by_name(tmp_path: Path) -> None:
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(0, gap_p99=1.0))
    other = {**SUBJECT, "base": "b", "versions": {"vllm": "0.33"}}

    with pytest.raises(JournalOfOther) as refused, open_journal(tmp_path, other):
        pass

    assert refused.value.changed == {
        "base": ("a", "b"),
        "versions": ({"vllm": "0.32"}, {"vllm": "0.33"}),
    }
    assert len(read_events(tmp_path)) == 1


def test_two_searches_do_not_share_a_record(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path, SUBJECT),
        pytest.raises(JournalBusy, match="another search"),
        open_journal(tmp_path, SUBJECT),
    ):
        pass


@pytest.mark.parametrize("text", ["{not json}\n", "[]\n", '{"event": "round"}\n'])
def test_a_file_that_is_no_record_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)

    with pytest.raises(JournalBroken, match=":1:"), open_journal(tmp_path, SUBJECT):
        pass


@pytest.mark.parametrize(
    "event", ['{"event": "lunch", "seconds": 1}', '{"event": "round"}', '{"event": "start"}']
)
def test_an_event_that_nobody_writes_is_refused_with_its_line(tmp_path: Path, event: str) -> None:
    with open_journal(tmp_path, SUBJECT):
        pass
    with (tmp_path / FILE).open("a") as file:
        file.write(event + "\n")

    with pytest.raises(JournalBroken, match=":2:"), open_journal(tmp_path, SUBJECT):
        pass


def test_what_a_full_disk_took_half_of_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with open_journal(tmp_path, SUBJECT) as journal:
        journal.append(one_round(0, gap_p99=1.0))
        monkeypatch.setattr(os, "write", lambda where, text: write(where, text[:10]))
        with pytest.raises(OSError, match="No space"):
            journal.append(one_round(1, gap_p99=2.0))
        monkeypatch.undo()
        journal.append(one_round(1, gap_p99=3.0))

    assert [event["values"]["gap_p99"] for event in read_events(tmp_path)] == [1.0, 3.0]


def test_where_there_is_no_record_nothing_was_done(tmp_path: Path) -> None:
    assert read_events(tmp_path / "nowhere") == []
    assert not (tmp_path / "nowhere").exists()
