"""The multipart form, fed in pieces of every size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.errors import ArtifactTooLarge
from serving.controller.errors import UploadMalformed
from serving.controller.upload_form import UploadForm

TYPE = "multipart/form-data; boundary=XX"
Part = tuple[str, str | None, bytes]


def a_body(*parts: Part) -> bytes:
    out = b""
    for name, file_name, data in parts:
        file = f'; filename="{file_name}"' if file_name is not None else ""
        head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        out += head.encode() + data + b"\r\n"
    return out + b"--XX--\r\n"


def feed(folder: Path, body: bytes, *, step: int = 7, max_bytes: int = 10**6) -> UploadForm:
    form = UploadForm(TYPE, folder, max_bytes=max_bytes)
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
