"""What the API server's answers mean, decided on status and reason alone."""

from __future__ import annotations

from typing import Any

import pytest

from serving.kube.errors import (
    KubeAlreadyExists,
    KubeConflict,
    KubeError,
    KubeExpired,
    KubeForbidden,
    KubeInvalid,
    KubeNotFound,
    KubeRefused,
    KubeThrottled,
    KubeUnreachable,
    refusal,
)


@pytest.mark.parametrize(
    ("status", "reason", "wanted"),
    [
        (400, "BadRequest", KubeInvalid),
        (401, "Unauthorized", KubeForbidden),
        (403, "Forbidden", KubeForbidden),
        (404, "NotFound", KubeNotFound),
        (405, "MethodNotAllowed", KubeRefused),
        (409, "Conflict", KubeConflict),
        (409, "AlreadyExists", KubeAlreadyExists),
        (410, "Expired", KubeExpired),
        (410, "Gone", KubeExpired),
        (422, "Invalid", KubeInvalid),
        (500, "InternalError", KubeUnreachable),
        (503, "", KubeUnreachable),
        (504, "Timeout", KubeUnreachable),
    ],
)
def test_an_answer_means_one_error(status: int, reason: str, wanted: type[KubeError]) -> None:
    assert type(refusal(status, {"reason": reason})) is wanted


@pytest.mark.parametrize(
    ("header", "body", "wanted"),
    [
        ("7", {}, 7.0),
        (None, {"details": {"retryAfterSeconds": 3}}, 3.0),
        (None, {}, 1.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {"details": None}, 1.0),
        ("-5", {}, 1.0),
    ],
)
def test_who_asks_too_often_is_told_how_long_to_wait(
    header: str | None, body: dict[str, Any], wanted: float
) -> None:
    error = refusal(429, body, retry_after=header)

    assert isinstance(error, KubeThrottled)
    assert error.retry_after_seconds == wanted


def test_a_long_message_is_cut() -> None:
    assert len(str(refusal(422, {"reason": "Invalid", "message": "x" * 100_000}))) < 1100
