"""Who plays the standalone model: our own process, an existing deployment, or merged weights.

    async with runner.open(adapter) as session:
        answers = await session.answers(suite.to_prompts())
        rows = await session.verify(items)      # where session.facts.can_verify_tokens

Whatever the session holds (a process, a server, a folder) is given back when the block ends.
"""

from adapters.parity.runners.protocol import (
    ReferenceRunner,
    RunnerFacts,
    RunnerNote,
    RunnerSession,
    StandaloneAnswer,
)

__all__ = ["ReferenceRunner", "RunnerFacts", "RunnerNote", "RunnerSession", "StandaloneAnswer"]
