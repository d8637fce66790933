"""What `show` says of a version's life after its evaluation."""

from __future__ import annotations

from typing import Any

from serving.cli.views import standing_of

RECHECK: dict[str, Any] = {
    "verdict": "FAIL",
    "reason": {"changed": ["engine_build", "dtype"]},
    "reasons": [{"code": "engine_disagrees", "text": "mean 1.6 nats"}],
    "error": None,
}


def test_an_override_names_who_and_why() -> None:
    version = {"override_by": "ann", "override_reason": "checked by hand"}

    assert standing_of(version) == ["promoted by ann: checked by hand"]


def test_a_failed_re_check_says_what_changed_and_why_it_failed() -> None:
    assert standing_of({"recheck": RECHECK}) == [
        "re-check after engine_build, dtype changed: FAIL",
        "engine_disagrees: mean 1.6 nats",
    ]


def test_a_passed_re_check_is_one_line_and_one_that_waits_says_for_what() -> None:
    passed = {"recheck": {**RECHECK, "verdict": "PASS"}}
    waiting = {"recheck": {"n_tries": 2, "error": {"code": "reference_failed"}}}

    assert standing_of(passed) == ["re-check after engine_build, dtype changed: PASS"]
    assert standing_of(waiting) == ["re-check put off: reference_failed"]
    assert standing_of({"recheck": None, "override_reason": None}) == []
