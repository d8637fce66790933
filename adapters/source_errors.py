"""Errors of the places that adapters are fetched from, as a tree.

SourceError
├── SourceInvalid        the URI or its credentials are not of a form that can be used
├── SourceForbidden      the place, or the operator, does not allow it
├── SourceNotFound       the place answered: the adapter's files are not there
├── SourceTooLarge       over the limit; nothing was kept
└── SourceUnreachable    the place did not answer; says nothing about the adapter

No field holds a credential: `source` redacts what the libraries say.
"""

from __future__ import annotations

from adapters.errors import AdapterError


class SourceError(AdapterError):
    """A place that an adapter should be fetched from."""

    code = "source_error"
    title = "The adapter's source cannot be used."


class SourceInvalid(SourceError):
    """The source's URI or credentials are not of a form that can be used."""

    code = "source_invalid"
    title = "The source is not one that can be used."

    def __init__(self, *, problem: str) -> None:
        super().__init__(problem=problem)


class SourceForbidden(SourceError):
    """The source's place, or the operator, does not allow reading it."""

    code = "source_forbidden"
    title = "The source may not be read."

    def __init__(self, *, uri: str, reason: str) -> None:
        super().__init__(uri=uri, reason=reason)


class SourceNotFound(SourceError):
    """The source's place answered: the adapter's files are not there."""

    code = "source_not_found"
    title = "The source does not hold the adapter's files."

    def __init__(self, *, uri: str, file: str) -> None:
        super().__init__(uri=uri, file=file)


class SourceTooLarge(SourceError):
    """The source's files are larger than allowed; nothing was kept."""

    code = "source_too_large"
    title = "The source's files are larger than allowed."

    def __init__(self, *, uri: str, limit: int, found: int) -> None:
        super().__init__(uri=uri, limit=limit, found=found)


class SourceUnreachable(SourceError):
    """The source's place did not answer; this says nothing about the adapter."""

    code = "source_unreachable"
    title = "The source cannot be read now."

    def __init__(self, *, uri: str, reason: str) -> None:
        super().__init__(uri=uri, reason=reason)
