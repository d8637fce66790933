"""The runner on our own process, with the real one."""

from adapters.parity.protocol import SuitePrompt, VerifyItem
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.runners import ReferenceRunner
from adapters.parity.runners.peft import PeftRunner

PROMPTS = [SuitePrompt("a", 3, prompt="hello"), SuitePrompt("b", 5, prompt="call the tool")]


async def test_what_it_answers_it_verifies_and_then_gives_its_memory_back(base, trained):
    client = ReferenceClient(threads=1, device="cpu", timeout_seconds=300.0)
    runner: ReferenceRunner = PeftRunner(client, model=base, dtype="float32")
    try:
        async with runner.open(trained) as session:
            answers = await session.answers(PROMPTS)
            prompts = await client.tokenize(PROMPTS)
            items = [
                VerifyItem(prompt.case_id, prompt.token_ids, answer.token_ids)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
            rows = await session.verify(items)
            texts = await client.decode([answer.token_ids for answer in answers])

            assert session.facts.can_verify_tokens
            assert "torch" in session.facts.versions
            assert client.pid is not None
    finally:
        pid = client.pid
        await client.close()

    assert pid is None
    assert [row.argmax_ids for row in rows] == [answer.token_ids for answer in answers]
    assert texts == [answer.text for answer in answers]
    assert all(len(a.token_ids) <= p.max_tokens for a, p in zip(answers, PROMPTS, strict=True))
