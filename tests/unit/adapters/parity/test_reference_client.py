"""The client against a child that misbehaves on demand, and once against the real one."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from adapters.errors import ReferenceFailed, ReferenceUnavailable, StrictLoadFailed, SuiteInvalid
from adapters.parity.protocol import ContinueItem, TokenizedPrompt, VerifyItem
from adapters.parity.reference_client import ReferenceClient

CHILD = [sys.executable, str(Path(__file__).parents[3] / "fakes" / "reference_child.py")]
WELL, DIES, HANGS, OTHER_ID, NONSENSE, OTHER_FORM = range(6)


@contextlib.asynccontextmanager
async def running(**settings):
    client = ReferenceClient(**{"command": CHILD, "timeout_seconds": 20.0, **settings})
    try:
        yield client
    finally:
        await client.close()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ask(client, behaviour):
    return await client.generate(None, [1], behaviour)


async def test_nothing_runs_before_it_is_needed_and_after_it_is_closed():
    async with running() as client:
        assert client.pid is None
        await client.load_base("base", dtype="float32")
        pid = client.pid
        assert pid is not None
        assert is_alive(pid)
    assert client.pid is None
    assert not is_alive(pid)


async def test_one_process_serves_many_requests_in_turn():
    async with running() as client:
        await client.load_base("base", dtype="float32")
        pid = client.pid

        answers = await asyncio.gather(*(ask(client, WELL) for _ in range(5)))

        assert client.pid == pid
        assert [item.text for item in answers] == ["base"] * 5


async def test_progress_is_heard():
    seen = []
    async with running() as client:
        item = VerifyItem("c", (1,), (1,))
        rows = await client.verify(None, [item], on_progress=lambda *step: seen.append(step))

    assert seen == [(1, 2), (2, 2)]
    assert rows[0].argmax_ids == (1,)


async def test_another_number_of_rows_than_asked_is_refused():
    async with running() as client:
        with pytest.raises(ReferenceFailed, match="1 rows for 2 answers"):
            await client.verify(None, [VerifyItem("c", (1,), (1,))] * 2)


async def test_continuations_come_one_for_each_item_and_texts_one_for_each_list():
    item = ContinueItem("c", (1, 2), 3)
    async with running() as client:
        done = await client.continue_from(None, [item, item])
        texts = await client.decode([(1, 2), (3,)])
        with pytest.raises(ReferenceFailed, match="1 continuations for 2 items"):
            await client.continue_from(Path("a"), [item, item])

    assert [one.token_ids for one in done] == [(1,), (1,)]
    assert texts == ["1,2", "3"]


async def test_a_merge_says_what_it_did(tmp_path):
    async with running() as client:
        merged = await client.merge(Path("a"), tmp_path / "merged")

    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert merged.lost_fraction == 0.125


async def test_typed_errors_arrive_as_themselves_and_leave_the_process_in_order():
    async with running() as client:
        with pytest.raises(SuiteInvalid) as invalid:
            await client.tokenize([])
        pid = client.pid
        with pytest.raises(StrictLoadFailed) as strict:
            await client.check_finite(Path("a"), [])

        assert invalid.value.fields["field"] == "a.prompt"
        assert strict.value.fields["missing"] == ["m"]
        assert client.pid == pid


async def test_a_death_is_told_with_status_and_log_and_the_next_request_starts_anew():
    async with running() as client:
        await client.load_base("base", dtype="float32")
        first = client.pid

        with pytest.raises(ReferenceFailed) as caught:
            await ask(client, DIES)

        assert "status 7 during generate" in caught.value.fields["reason"]
        assert caught.value.fields["log_tail"] == "it burns"
        answer = await ask(client, WELL)
        assert client.pid not in (None, first)
        assert answer.text == "base"  # the base was loaded again, without being asked for


async def test_silence_is_ended_at_the_timeout():
    async with running(timeout_seconds=1.5) as client:
        await client.load_base("base", dtype="float32")
        pid = client.pid

        with pytest.raises(ReferenceFailed, match=r"within 1\.5 s"):
            await ask(client, HANGS)

        assert not is_alive(pid)


@pytest.mark.parametrize("behaviour", [OTHER_ID, NONSENSE])
async def test_nonsense_ends_the_process(behaviour):
    async with running() as client:
        await client.load_base("base", dtype="float32")
        pid = client.pid

        with pytest.raises(ReferenceFailed):
            await ask(client, behaviour)

        assert not is_alive(pid)
        assert (await ask(client, WELL)).text == "base"


async def test_a_result_of_another_form_is_refused():
    async with running() as client:
        with pytest.raises(ReferenceFailed, match="unreadable answer"):
            await ask(client, OTHER_FORM)


async def test_a_cancelled_request_leaves_no_process_and_no_late_answer():
    async with running() as client:
        await client.load_base("base", dtype="float32")
        pid = client.pid
        task = asyncio.create_task(ask(client, HANGS))
        await asyncio.sleep(0.2)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not is_alive(pid)
        assert (await ask(client, WELL)).text == "base"


async def test_a_request_that_waits_its_turn_can_be_cancelled_alone():
    async with running() as client:
        first = asyncio.create_task(client.load_base("base", dtype="float32"))
        waiting = asyncio.create_task(ask(client, WELL))
        await asyncio.sleep(0)

        waiting.cancel()

        assert (await first).model == "base"
        assert (await ask(client, WELL)).text == "base"


async def test_an_idle_process_ends_and_comes_back_with_its_base():
    async with running(idle_seconds=0.3) as client:
        await client.load_base("base", dtype="float32")
        pid = client.pid

        async with asyncio.timeout(10):
            while client.pid is not None:  # noqa: ASYNC110 - a timer of the client's own
                await asyncio.sleep(0.02)

        assert not is_alive(pid)
        assert (await ask(client, WELL)).text == "base"


async def test_a_base_that_cannot_be_loaded_does_not_stand_in_for_the_old_one():
    async with running() as client:
        with pytest.raises(ReferenceUnavailable, match="no base"):
            await client.load_base("unloadable", dtype="float32")
        with pytest.raises(ReferenceUnavailable, match="no base"):
            await ask(client, WELL)
        await client.load_base("other", dtype="float32")

        assert (await ask(client, WELL)).text == "other"


async def test_a_process_that_cannot_be_started_is_told():
    async with running(command=["/nonexistent/python"]) as client:
        with pytest.raises(ReferenceUnavailable, match="cannot be started"):
            await client.load_base("base", dtype="float32")


async def test_a_process_that_died_while_idle_is_replaced():
    async with running() as client:
        await client.load_base("base", dtype="float32")
        os.kill(client.pid, 9)
        await asyncio.sleep(0.3)

        assert (await ask(client, WELL)).text == "base"


async def test_the_real_process_reads_a_trained_adapter(base, trained):
    seen = []
    prompts = [TokenizedPrompt(f"c{n}", (5, 6, 7 + n), 4) for n in range(3)]
    async with running(command=None, threads=1, timeout_seconds=300.0) as client:
        facts = await client.load_base(base, dtype="float32")
        report = await client.check_finite(
            trained, prompts, on_progress=lambda *step: seen.append(step)
        )
        items = [
            VerifyItem(
                p.case_id, p.token_ids, (await client.generate(trained, p.token_ids, 4)).token_ids
            )
            for p in prompts
        ]
        rows = await client.verify(trained, items, against_base=True)
        with pytest.raises(ReferenceUnavailable, match="cannot be loaded"):
            await client.load_base(trained / "nothing", dtype="float32")

    assert facts.revision.startswith("sha256:")
    assert report.non_finite_cases == ()
    assert seen[-1] == (6, 6)
    assert all(row.argmax_ids == item.token_ids for row, item in zip(rows, items, strict=True))


async def test_a_child_of_this_machine_sees_none_of_this_processs_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAPLANE_ADMIN_TOKEN", "verysecret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    seen = tmp_path / "seen"
    program = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    client = ReferenceClient(command=[sys.executable, "-c", program], timeout_seconds=30.0)

    with pytest.raises(ReferenceUnavailable):
        await client.load_base("base", dtype="float32")
    await client.close()

    assert "verysecret" not in seen.read_text()
    assert os.environ["PATH"] in seen.read_text()
