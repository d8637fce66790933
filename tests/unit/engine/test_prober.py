"""A loaded version answers as the gate recorded, or is not proven."""

from __future__ import annotations

from pathlib import Path

from serving.contract import Probe, ProbeCase
from serving.engine.ports import GeneratedTokens
from serving.engine.prober import confirm_probe, judge_case, run_probe
from tests.fakes.engine_port import FakeEnginePort, answer_of

PROBE = Probe(
    cases=[ProbeCase([1, 2], [10, 11, 12], [-0.1, -0.2, -0.3])],
    max_mean_delta_nats=0.05,
    tie_margin_nats=0.01,
)


def answer(tokens: list[int], logprobs: list[float], margin: float = 1.0) -> GeneratedTokens:
    return GeneratedTokens(tuple(tokens), tuple(logprobs), (margin,) * len(tokens), True)


def reason(found: GeneratedTokens) -> str | None:
    failure = judge_case(PROBE, 0, found)
    return failure.reason if failure else None


def test_the_recorded_answer_passes() -> None:
    assert reason(answer([10, 11, 12], [-0.1, -0.2, -0.3])) is None


def test_another_token_by_a_clear_margin_fails() -> None:
    assert reason(answer([10, 99, 12], [-0.1, -0.2, -0.3])) == "probe_tokens"


def test_another_token_in_a_near_tie_passes_and_ends_the_comparison() -> None:
    assert reason(answer([10, 99, 98], [-0.1, -9.0, -9.0], margin=0.01)) is None
    assert reason(answer([99, 98, 97], [-9.0, -9.0, -9.0], margin=0.01)) is None


def test_shifted_logprobs_fail_though_the_tokens_are_equal() -> None:
    assert reason(answer([10, 11, 12], [-0.2, -0.3, -0.4])) == "probe_logprobs"
    assert reason(answer([10, 99, 12], [-0.9, -0.2, -0.3], margin=0.0)) == "probe_logprobs"


def test_a_short_or_non_finite_answer_fails() -> None:
    assert reason(answer([10, 11], [-0.1, -0.2])) == "probe_too_short"
    assert reason(GeneratedTokens((), (), (), False)) == "non_finite"


async def test_a_probe_asks_every_case(tmp_path: Path) -> None:
    port = await loaded(tmp_path, "good weights")
    right = answer_of(b"good weights", [3, 4], 2)
    good = ProbeCase([3, 4], list(right.token_ids), list(right.logprobs))
    bad = ProbeCase([3, 4], [300, 301], [-0.5, -0.5])

    assert await run_probe(port, "a/b@1", Probe([good], 0.1, 0.01)) is None
    failure = await run_probe(port, "a/b@1", Probe([good, bad], 0.1, 0.01))

    assert failure is not None
    assert failure.reason == "probe_tokens"
    assert failure.detail.startswith("case 1")


async def test_without_cases_finiteness_is_checked(tmp_path: Path) -> None:
    good = await loaded(tmp_path / "good", "good")
    bad = await loaded(tmp_path / "bad", "NAN")

    assert await run_probe(good, "a/b@1", None) is None
    failure = await run_probe(bad, "a/b@1", Probe([], 0.1, 0.1))
    assert failure is not None
    assert failure.reason == "non_finite"


class Moody(FakeEnginePort):
    """Answers the first `n_wrong` questions of a life otherwise."""

    n_wrong = 0

    async def generate(
        self, name: str | None, prompt_token_ids: list[int], max_tokens: int
    ) -> GeneratedTokens:
        right = await super().generate(name, prompt_token_ids, max_tokens)
        self.n_wrong -= 1
        return right if self.n_wrong < 0 else answer([999] * max_tokens, [-0.5] * max_tokens)


async def test_a_mismatch_in_service_counts_when_a_second_run_has_one_too(tmp_path: Path) -> None:
    right = answer_of(b"good", [3, 4], 2)
    probe = Probe([ProbeCase([3, 4], list(right.token_ids), list(right.logprobs))], 0.1, 0.01)
    port = Moody()
    write(tmp_path / "a", "good")
    await port.prefetch("a/b@1", str(tmp_path / "a"), ())

    port.n_wrong = 1
    assert await confirm_probe(port, "a/b@1", probe) is None
    port.n_wrong = 2
    failure = await confirm_probe(port, "a/b@1", probe)

    assert failure is not None
    assert failure.reason == "probe_tokens"


async def test_a_nan_in_service_counts_at_once(tmp_path: Path) -> None:
    port = await loaded(tmp_path, "NAN")

    failure = await confirm_probe(port, "a/b@1", None)

    assert failure is not None
    assert failure.reason == "non_finite"


async def loaded(folder: Path, text: str) -> FakeEnginePort:
    port = FakeEnginePort()
    write(folder, text)
    await port.prefetch("a/b@1", str(folder), ())
    return port


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(text)
