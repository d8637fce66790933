"""A source's URI has one way to be written, and never leads elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.source_errors import SourceInvalid
from adapters.source_uri import parse_source_uri


@pytest.mark.parametrize(
    ("text", "bucket", "path", "is_archive"),
    [
        ("s3://acme-models/support/v3", "acme-models", "support/v3", False),
        ("s3://acme-models/support/v3/", "acme-models", "support/v3", False),
        ("gs://acme/support.tar.gz", "acme", "support.tar.gz", True),
        ("az://models/run=7/out.zip", "models", "run=7/out.zip", True),
        ("s3://acme-models", "acme-models", "", False),
        ("file:///srv/adapters/support", "", "srv/adapters/support", False),
    ],
)
def test_a_legal_uri_names_bucket_path_and_form(
    text: str, bucket: str, path: str, is_archive: bool
) -> None:
    uri = parse_source_uri(text)

    assert (uri.bucket, uri.path, uri.is_archive) == (bucket, path, is_archive)


@pytest.mark.parametrize(
    "text",
    [
        "", "support", "http://host/x", "s3:/bucket/x", "s3:///x", "s3://B/x", "file:///",
        "file://host/x", "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/./a",
        "s3://bucket/a?versionId=1", "s3://bucket/a#b", "s3://bucket/a%2e%2e", "s3://bucket/a\\b",
        "s3://bucket/a\nb", "s3://user@bucket/a", "file:///srv/../etc", "s3://bucket/" + "a" * 1024,
    ],
)  # fmt: skip
def test_what_could_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(SourceInvalid):
        parse_source_uri(text)


@given(st.text(max_size=60) | st.from_regex(r"(s3|gs|az|file)://[ -~]{0,40}", fullmatch=True))
def test_any_text_is_refused_or_means_what_it_says(text: str) -> None:
    try:
        uri = parse_source_uri(text)
    except SourceInvalid:
        return

    assert parse_source_uri(str(uri)) == uri
    assert not {"", ".", ".."} & set(uri.parts)
