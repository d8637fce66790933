"""The runner on merged weights: its server lives as long as a session, and nothing stays behind."""

import contextlib
import sys
from pathlib import Path

import pytest

from adapters.errors import RunnerUnreachable
from adapters.parity.protocol import MergeFacts, SuitePrompt
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.runners.merged import MergedRunner, merge_note

FAKES = Path(__file__).parents[4] / "fakes"
CHILD = [sys.executable, str(FAKES / "reference_child.py")]
SERVER = [sys.executable, str(FAKES / "deployment_process.py"), "{model}", "{port}"]


@contextlib.asynccontextmanager
async def runner(folder, **settings):
    client = ReferenceClient(command=CHILD, timeout_seconds=20.0)
    try:
        made = {"model": folder / "base", "dtype": "bfloat16", "folder": folder}
        yield client, MergedRunner(client, **{**made, "command": [*SERVER, "{name}"], **settings})
    finally:
        await client.close()


def is_alive(pid):
    # A child of a process that is gone is nobody's to wait for: a zombie counts as ended.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_merged_weights_are_served_and_removed_with_the_server_and_its_children(tmp_path):
    async with (
        runner(tmp_path) as (client, merged),
        merged.open(tmp_path / "adapter") as session,
    ):
        (answer,) = await session.answers([SuitePrompt("a", 4, prompt="hello")])

        assert client.pid is None  # its memory is free while the server runs
        child = int((tmp_path / "child.pid").read_text())
        assert is_alive(child)
        assert session.facts.name == "merged"
        assert session.facts.can_verify_tokens
        (note,) = session.facts.notes
        assert note.code == "merging_changed_the_model"
        assert "12.5%" in note.text

    assert answer.text == "to hello"
    assert not is_alive(child)
    assert [item.name for item in tmp_path.iterdir()] == ["child.pid"]


async def test_a_server_that_ends_is_told_with_its_log(tmp_path):
    (tmp_path / "base").mkdir()
    async with runner(tmp_path) as (_, merged):
        with pytest.raises(RunnerUnreachable, match="status 3: no weights there"):
            async with merged.open(None):
                pass

    assert [item.name for item in tmp_path.iterdir()] == ["base"]


async def test_a_server_that_never_answers_is_ended(tmp_path):
    async with runner(tmp_path, command=[*SERVER, "silent"], ready_seconds=2.0) as (_, merged):
        with pytest.raises(RunnerUnreachable, match="not ready within 2 s"):
            async with merged.open(tmp_path / "adapter"):
                pass

    assert not is_alive(int((tmp_path / "child.pid").read_text()))


async def test_a_command_that_is_not_there_is_told(tmp_path):
    async with runner(tmp_path, command=["/nonexistent"]) as (_, merged):
        with pytest.raises(RunnerUnreachable, match="cannot be started"):
            async with merged.open(tmp_path / "adapter"):
                pass

    assert list(tmp_path.iterdir()) == []


def test_an_exact_merge_is_not_called_a_change():
    assert merge_note(MergeFacts("f", "float32", 3, 0.0, True)).code == "merged_exactly"
    assert "unknown share" in merge_note(MergeFacts("f", "bfloat16", 3, None, False)).text
