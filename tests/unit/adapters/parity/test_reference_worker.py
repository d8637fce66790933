"""What the server does with its child and its copies of adapters."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from adapters.errors import ArtifactNotFound, ReferenceFailed
from adapters.manifest import manifest_of_folder
from adapters.parity.protocol import Request
from adapters.parity.reference_channel import ProcessLauncher
from adapters.parity.reference_worker import FetchedAdapters, Worker
from adapters.store import ArtifactStore, folder_name

CHILD = [sys.executable, str(Path(__file__).parents[3] / "fakes" / "reference_child.py")]
ABSENT = "sha256-" + "0" * 64
WELL, DIES, HANGS, OTHER_ID, NONSENSE, OTHER_FORM = range(6)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def adapters(store, tmp_path):
    return FetchedAdapters(store, tmp_path / "scratch")


@pytest.fixture
async def worker(adapters):
    made = Worker(ProcessLauncher(CHILD), adapters)
    yield made
    await made.close()


async def put(store, folder, text):
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(text)
    return await store.put(manifest_of_folder(folder), folder)


async def ask(worker, number, op, **args):
    """Every line that the worker says to one request."""
    said = []

    async def say(line):
        said.append(json.loads(line))

    await worker.answer(Request(number, op, args), say)
    return said


async def generate(worker, number, behaviour):
    (reply,) = await ask(worker, number, "generate", adapter=None, prompt_token_ids=[], n=behaviour)
    return reply


async def load(worker, number=1, model="base"):
    (reply,) = await ask(worker, number, "load_base", model=model, dtype="float32")
    return reply


async def test_progress_and_result_are_passed_on_with_their_number(worker):
    said = await ask(worker, 7, "verify", adapter=None, items=[])

    assert [line["id"] for line in said] == [7, 7, 7]
    assert said[-1]["result"][0]["argmax_ids"] == [1]


async def test_a_dead_child_is_told_with_its_log_and_the_next_one_has_the_base(worker):
    await load(worker)

    death = await generate(worker, 2, DIES)
    answer = await generate(worker, 3, WELL)

    assert death["error"]["code"] == "reference_failed"
    assert "status 7 during generate" in death["error"]["fields"]["reason"]
    assert death["error"]["fields"]["log_tail"] == "it burns"
    assert answer["result"]["text"] == "base"


async def test_a_base_that_could_not_be_loaded_does_not_replace_the_one_that_was(worker):
    await load(worker)
    assert (await load(worker, 2, "unloadable"))["error"]["fields"]["reason"] == "no base"
    await generate(worker, 3, DIES)

    assert (await generate(worker, 4, WELL))["result"]["text"] == "base"


async def test_nonsense_of_the_child_is_told_and_ends_it(worker):
    reply = await generate(worker, 1, NONSENSE)

    assert "cannot be read" in reply["error"]["fields"]["reason"]
    assert (await generate(worker, 2, WELL))["result"]["text"] == ""


async def test_a_cancelled_answer_leaves_no_child_that_could_answer_late(worker):
    await load(worker)
    task = asyncio.create_task(generate(worker, 2, HANGS))
    await asyncio.sleep(0.2)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await generate(worker, 3, WELL))["result"]["text"] == "base"


async def test_merging_is_refused_with_the_reason(worker):
    (reply,) = await ask(worker, 1, "merge", adapter="a", folder="f")

    assert "run the reference as a process" in reply["error"]["fields"]["reason"]


async def test_a_program_that_cannot_be_started_is_told(adapters):
    worker = Worker(ProcessLauncher(["/nonexistent/python"]), adapters)

    assert "cannot be started" in (await load(worker))["error"]["fields"]["reason"]


async def test_a_clients_folder_becomes_an_own_verified_copy(adapters, store, tmp_path):
    digest = await put(store, tmp_path / "a", "weights")

    path = await adapters.path_of(f"/somewhere/else/{folder_name(digest)}")

    assert path == tmp_path / "scratch" / folder_name(digest)
    assert (path / "adapter_model.safetensors").read_text() == "weights"


async def test_only_the_last_adapters_are_kept(adapters, store, tmp_path):
    digests = [await put(store, tmp_path / f"a{n}", f"weights {n}") for n in range(9)]
    first = await adapters.path_of(folder_name(digests[0]))
    second = await adapters.path_of(folder_name(digests[1]))
    await adapters.path_of(folder_name(digests[0]))

    for digest in digests[2:]:
        await adapters.path_of(folder_name(digest))

    assert first.is_dir()
    assert not second.exists()
    assert len(list((tmp_path / "scratch").iterdir())) == 8


@pytest.mark.parametrize(
    "path", ["/data/adapter", "../../etc", "sha256-", "", "sha256-" + "G" * 64]
)
async def test_a_path_that_names_no_digest_is_refused(adapters, path):
    with pytest.raises(ReferenceFailed, match="named by its digest"):
        await adapters.path_of(path)


async def test_an_absent_artifact_is_told_as_that(adapters, worker):
    with pytest.raises(ArtifactNotFound):
        await adapters.path_of(ABSENT)

    (reply,) = await ask(worker, 1, "check_finite", adapter=f"/x/{ABSENT}", prompts=[])

    assert reply["error"]["code"] == "artifact_not_found"


async def test_a_scratch_folder_that_cannot_be_written_is_told(store, tmp_path):
    digest = await put(store, tmp_path / "a", "weights")
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ReferenceFailed, match="cannot be written"):
        await FetchedAdapters(store, tmp_path / "file").path_of(folder_name(digest))
