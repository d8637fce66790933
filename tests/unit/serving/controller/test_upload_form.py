"""The multipart form, fed in pieces of every size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.errors import ArtifactTooLarge
from serving.controller.errors import UploadMalformed
from serving.controller.upload_form import FormKind, UploadForm, suite_form

TYPE = "multipart/form-data; boundary=XX"
Part = tuple[str, str | None, bytes]


def a_body(*parts: Part) -> bytes:
    out = b""
    for name, file_name, data in parts:
        file = f'; filename="{file_name}"' if file_name is not None else ""
        head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        out += head.encode() + data + b"\r\n"
    return out + b"--XX--\r\n"


def feed(
    folder: Path,
    body: bytes,
    *,
    step: int = 7,
    max_bytes: int = 10**6,
    kind: FormKind | None = None,
) -> UploadForm:
    form = UploadForm(TYPE, folder, max_bytes=max_bytes, kind=kind)
    try:
        for start in range(0, len(body), step):
            form.feed(body[start : start + step])
        form.finish()
    finally:
        form.close()
    return form


CONFIG: Part = ("adapter_config.json", "adapter_config.json", b"{}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=300), step=st.integers(1, 50))
def test_files_arrive_byte_for_byte_however_the_body_is_cut(
    tmp_path: Path, data: bytes, step: int
) -> None:
    target = tmp_path / "adapter_model.safetensors"
    target.unlink(missing_ok=True)
    body = a_body(("x", "adapter_model.safetensors", data), ("promote", None, b"auto"))
    if b"\r\n--XX" in data:
        return

    form = feed(tmp_path, body, step=step)

    file = form.files["adapter_model.safetensors"]
    assert target.read_bytes() == data
    assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert form.fields == {"promote": "auto"}


@pytest.mark.parametrize(
    ("field", "file_name", "stored"),
    [
        ("adapter_config.json", None, "adapter_config.json"),
        ("adapter_config.json", "whatever.json", "adapter_config.json"),
        ("file", "some/folder/adapter_config.json", "adapter_config.json"),
        ("file", "C:\\x\\adapter_config.json", "adapter_config.json"),
        ("archive", "noname", "archive"),
        ("file", "../../etc/a.tar.gz", "archive"),
    ],
)
def test_a_file_is_recognised_by_its_name_or_its_fields_and_never_leaves_the_folder(
    tmp_path: Path, field: str, file_name: str | None, stored: str
) -> None:
    form = feed(tmp_path, a_body((field, file_name, b"x")))

    assert list(form.files) == [stored]
    assert [path.name for path in tmp_path.iterdir()] == [stored]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        a_body(),
        a_body(("promote", None, b"auto")),
        a_body(CONFIG)[:-6],
        a_body(CONFIG, CONFIG),
        a_body(CONFIG, ("promote", None, b"a"), ("promote", None, b"b")),
        a_body(CONFIG, ("promote", None, b"x" * 5000)),
        a_body(("passwd", "/etc/passwd", b"x")),
        a_body(("", "x", b"x")),
        a_body(CONFIG, ("archive", "a.zip", b"x")),
        a_body(*(("promote", None, b"a") for _ in range(20))),
        b'--XX\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--XX--\r\n',
        b"--XX\r\nX: " + b"y" * 5000 + b"\r\n\r\nx\r\n--XX--\r\n",
    ],
)
def test_a_form_that_is_not_as_documented_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(UploadMalformed):
        feed(tmp_path, body)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300],
)
def test_another_content_type_is_refused(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(UploadMalformed):
        UploadForm(content_type, tmp_path, max_bytes=10)


def test_the_limit_counts_what_arrives(tmp_path: Path) -> None:
    with pytest.raises(ArtifactTooLarge) as caught:
        feed(tmp_path, a_body(CONFIG), max_bytes=20)

    assert caught.value.fields["limit"] == 20


SUITES = suite_form(max_suite_bytes=10, max_training_bytes=20)


def test_a_suite_and_its_training_set_lie_under_their_fields_names(tmp_path: Path) -> None:
    body = a_body(("suite", "../x.jsonl", b"cases"), ("training", None, b"documents"))

    form = feed(tmp_path, body, kind=SUITES)

    assert (tmp_path / "suite").read_bytes() == b"cases"
    assert (tmp_path / "training").read_bytes() == b"documents"
    assert form.files["training"].sha256 == hashlib.sha256(b"documents").hexdigest()
    assert form.fields == {}


@pytest.mark.parametrize(
    "parts",
    [
        [("training", "t", b"x")],
        [("suite", "s", b"x"), ("promote", None, b"auto")],
        [("suite", "s", b"x"), ("suite", "s", b"x")],
        [("adapter_config.json", "adapter_config.json", b"x")],
    ],
)
def test_a_form_of_a_suite_holds_a_suite_and_at_most_a_training_set(
    tmp_path: Path, parts: list[Part]
) -> None:
    with pytest.raises(UploadMalformed):
        feed(tmp_path, a_body(*parts), kind=SUITES)


@pytest.mark.parametrize(("name", "limit"), [("suite", 10), ("training", 20)])
def test_each_file_of_a_suites_form_has_a_limit_of_its_own(
    tmp_path: Path, name: str, limit: int
) -> None:
    (tmp_path / "fits").mkdir()
    others: list[Part] = [] if name == "suite" else [("suite", "s", b"")]
    feed(tmp_path / "fits", a_body(*others, *_of(name, limit)), kind=SUITES)

    with pytest.raises(ArtifactTooLarge) as caught:
        feed(tmp_path, a_body(*_of(name, limit + 1)), kind=SUITES)

    assert caught.value.fields == {"what": name, "limit": limit, "found": None}


def _of(name: str, size: int) -> list[Part]:
    return [(name, "f", b"x" * size)]
