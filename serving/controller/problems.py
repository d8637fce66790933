"""Errors -> RFC 9457 problem documents: the only table from our errors to HTTP statuses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters import errors as adapter_errors
from adapters import source_errors
from serving.controller import errors

log = structlog.get_logger()

STATUS: dict[type[Exception], HTTPStatus] = {
    adapter_errors.AdapterError: HTTPStatus.UNPROCESSABLE_ENTITY,
    adapter_errors.ArtifactTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    adapter_errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    adapter_errors.ArtifactNotFound: HTTPStatus.NOT_FOUND,
    adapter_errors.BaseModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    adapter_errors.ReferenceFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    adapter_errors.ReferenceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    adapter_errors.RunnerError: HTTPStatus.SERVICE_UNAVAILABLE,
    adapter_errors.ContaminationFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    source_errors.SourceUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ControllerError: HTTPStatus.BAD_REQUEST,
    errors.AccessError: HTTPStatus.FORBIDDEN,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.LimitExceeded: HTTPStatus.CONFLICT,
    errors.RequestInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TraceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UploadError: HTTPStatus.BAD_REQUEST,
    errors.UploadsBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RegistryError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Looked up along the error's MRO, so a base class answers for its tree."""

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 2


def status_of(error: type[Exception]) -> HTTPStatus:
    """The status of an error class of ours.

    Raises:
        KeyError: not in the table, nor any of its bases.
    """
    for base in error.__mro__:
        if base in STATUS:
            return STATUS[base]
    raise KeyError(error.__name__)


def install(app: FastAPI) -> None:
    """Answer every error of this app with a problem document."""
    app.add_exception_handler(adapter_errors.AdapterError, _typed)
    app.add_exception_handler(errors.ControllerError, _typed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _untyped)
    app.add_middleware(RequestIds)


class RequestIds:
    """Names every request: `X-Request-Id` of the answer, `request_id` of a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_named)


def problem(
    request: Request,
    status: int,
    *,
    code: str,
    title: str,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """One problem document."""
    body = {
        "type": f"urn:loraplane:error:{code}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "instance": request.url.path,
        "code": code,
        "errors": [],
        "request_id": getattr(request.state, "request_id", None),
        **more,
    }
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


async def _typed(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, adapter_errors.AdapterError | errors.ControllerError):
        raise error
    status, fields = status_of(type(error)), dict(error.fields)
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(fields.get("retry_after_seconds", _RETRY_AFTER_SECONDS))
    listed = fields.pop("errors", None) or fields.pop("findings", None) or []
    return problem(
        request,
        status,
        code=error.code,
        title=error.title,
        detail=error.title if listed else error.detail(),
        headers=headers,
        errors=listed,
        data=fields,
    )


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # The input itself is not repeated: it may hold a secret.
    places = [
        {"code": item["type"], "subject": ".".join(map(str, item["loc"])), "title": item["msg"]}
        for item in error.errors()
    ]
    return await _typed(request, errors.RequestInvalid(errors=places))


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    code = "no_route" if error.status_code == HTTPStatus.NOT_FOUND else _slug(phrase)
    title = str(error.detail or phrase)
    return problem(request, error.status_code, code=code, title=title, headers=error.headers)


async def _gone(request: Request, _error: Exception) -> JSONResponse:
    return problem(request, HTTPStatus.BAD_REQUEST, code="client_gone", title="The client left.")


async def _untyped(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    log.error("request_failed", request_id=request_id, path=request.url.path, exc_info=error)
    title = "An internal error; the log has it under this request id."
    # This answer is made outside of `RequestIds`.
    return problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal_error",
        title=title,
        headers={"X-Request-Id": str(request_id)},
    )


def _slug(phrase: str) -> str:
    return phrase.lower().replace(" ", "_").replace("-", "_")
