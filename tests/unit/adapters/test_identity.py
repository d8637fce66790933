"""Names: what is legal, reserved, and how versions are written."""

from __future__ import annotations

import pytest

from adapters.errors import InvalidName, ReservedName
from adapters.identity import (
    MAX_NAME_LENGTH,
    RESERVED_NAMES,
    ModelName,
    VersionId,
    parse_adapter_name,
    parse_digest,
    parse_model_name,
    parse_tenant_id,
    parse_version_id,
)


@pytest.mark.parametrize("name", ["a", "acme", "acme-2", "a.b_c", "0", "x" * MAX_NAME_LENGTH])
def test_an_ordinary_name_is_taken(name: str) -> None:
    assert parse_tenant_id(name) == name
    assert parse_adapter_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "Acme", "a,b", "a/b", "a b", "a@b", "-a", "a-", ".a", "a.", "a..b", "a\n", "a\0", "é",
        "x" * (MAX_NAME_LENGTH + 1), "..", "a:b", "a\\b", "a%2f",
    ],
)  # fmt: skip
def test_a_name_that_could_be_misread_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        parse_adapter_name(name)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(ReservedName):
        parse_tenant_id(name)


@pytest.mark.parametrize("word", ["text", "image", "audio", "video", "input", "output", "tool"])
def test_words_that_the_engine_gives_a_meaning_are_reserved(word: str) -> None:
    assert word in RESERVED_NAMES


def test_a_version_is_written_as_it_is_parsed() -> None:
    version = parse_version_id("acme/support@3")

    assert (version.tenant, version.adapter, version.number) == ("acme", "support", 3)
    assert str(version) == "acme/support@3"


def test_versions_of_one_adapter_are_ordered_by_number() -> None:
    texts = ["acme/support@10", "acme/support@9"]

    assert [str(v) for v in sorted(map(parse_version_id, texts))] == texts[::-1]


@pytest.mark.parametrize(
    "text",
    [
        "", "acme", "acme/support", "support@3", "acme/support@", "acme/support@0",
        "acme/support@03", "acme/support@-1", "acme/support@1@2", "acme/support@1/2",
        "acme/support@1234567890", "/support@1", "acme/@1", "acme/support@٣",
    ],
)  # fmt: skip
def test_another_form_is_no_version(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_version_id(text)


def test_a_version_of_a_reserved_adapter_is_refused() -> None:
    with pytest.raises(ReservedName):
        parse_version_id("acme/text@1")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("support", (None, "support", None)),
        ("acme/support", ("acme", "support", None)),
        ("support@3", (None, "support", 3)),
        ("acme/support@3", ("acme", "support", 3)),
    ],
)
def test_a_client_may_write_four_forms(
    text: str, wanted: tuple[str | None, str, int | None]
) -> None:
    name = parse_model_name(text)

    assert isinstance(name, ModelName)
    assert (name.tenant, name.adapter, name.number) == wanted


@pytest.mark.parametrize("text", ["", "support@", "/support", "a/b/c", "support@x", "support@0"])
def test_another_form_is_no_model(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_model_name(text)


def test_a_digest_is_sha256_and_64_hex_digits() -> None:
    digest = "sha256:" + "0a" * 32

    assert parse_digest(digest) == digest


@pytest.mark.parametrize(
    "text", ["", "0" * 64, "sha256:" + "A" * 64, "sha256:" + "0" * 63, "md5:0"]
)
def test_another_form_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_digest(text)


def test_a_long_wrong_name_is_shortened_in_the_error() -> None:
    with pytest.raises(InvalidName) as refused:
        parse_version_id("x" * 10_000)

    assert len(str(refused.value)) < 500
    assert isinstance(VersionId, type)
