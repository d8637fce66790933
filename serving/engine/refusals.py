"""How requests are turned away, in the shape of OpenAI's errors. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from serving.engine.resolution import (
    REFUSED_FIELDS,
    BaseModel,
    ModelMissing,
    NotReady,
    Resolution,
    Resolved,
    UnknownModel,
    refused_field,
)
from serving.engine.scope import RequestRefused

_SHOWN_MODEL_CHARACTERS = 200


def unknown_model(model: str) -> RequestRefused:
    """404; the same for a foreign adapter and for none."""
    shown = model[:_SHOWN_MODEL_CHARACTERS]
    return RequestRefused(
        HTTPStatus.NOT_FOUND,
        "model_not_found",
        f"The model `{shown}` does not exist.",
        kind="NotFoundError",
        param="model",
    )


def bad_request(code: str, message: str, param: str) -> RequestRefused:
    """400: the request itself is wrong."""
    return RequestRefused(HTTPStatus.BAD_REQUEST, code, message, param=param)


def require_allowed(fields: Mapping[str, object]) -> None:
    """Let only bodies through that set none of `REFUSED_FIELDS`.

    Raises:
        RequestRefused: which one, and why.
    """
    field = refused_field(fields)
    if field is not None:
        raise bad_request(
            "field_refused", f"`{field}` may not be set: {REFUSED_FIELDS[field]}.", field
        )


def require_answer(found: Resolution) -> Resolved | BaseModel:
    """What may answer a request, of what its `model` was resolved to.

    Raises:
        RequestRefused: nothing may, and why.
    """
    match found:
        case UnknownModel(model):
            raise unknown_model(model)
        case ModelMissing():
            raise bad_request("model_missing", "`model` must name an adapter.", "model")
        case NotReady(name):
            raise unavailable(
                "adapter_not_ready", f"The adapter `{name}` is not ready on this engine."
            )
        case _:
            return found


def unavailable(code: str, message: str) -> RequestRefused:
    """503: the same request may succeed soon."""
    return RequestRefused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        code,
        message,
        kind="ServiceUnavailableError",
        retry_after_seconds=2,
    )
