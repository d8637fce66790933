"""One adapter through the controller's public API: upload, wait, read what was decided."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from adapters.manifest import FINGERPRINT_FILE
from bench.fixtures.adapter_files import CONFIG, TENSORS
from bench.zoo.outcome import Outcome, judged, refused, rejected

SUITE = "quick"
N_CASES = 8
_SUBJECTS = ("weather", "music", "history", "cooking", "travel", "sports", "science", "money")
_POLL_SECONDS = 0.25
_GATE_SECONDS = 600.0
_REJECTED, _JUDGED = {"rejected"}, {"passed", "failed", "inconclusive", "live"}
_WAITING_SECONDS = 60.0


class PipelineStuck(Exception):
    """A version reached no end in time."""


class Pipeline:
    """A tenant of a running fleet, with a short suite of its own."""

    def __init__(self, url: str, token: str, tenant: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_WAITING_SECONDS,
            trust_env=False,
        )
        self._tenant = tenant

    def open(self) -> None:
        """Make the tenant and its suite."""
        self._http.post("/v1/tenants", json={"id": self._tenant}).raise_for_status()
        path = f"/v1/tenants/{self._tenant}/suites/{SUITE}"
        self._http.put(path, content=_suite()).raise_for_status()

    def send(
        self, name: str, folder: Path, *, has_fingerprint: bool, archive: bytes | None = None
    ) -> Outcome:
        """Upload as adapter `name` and wait for the end.

        Raises:
            PipelineStuck: no verdict in ten minutes.
            httpx.HTTPError: the controller is gone.
        """
        path = f"/v1/tenants/{self._tenant}/adapters/{quote(name, safe='')}/versions"
        with _form(folder, has_fingerprint=has_fingerprint, archive=archive) as files:
            response = self._http.post(path, files=files, data={"suite": SUITE})
        if response.status_code >= 400:
            return refused(response.status_code, _problem(response))
        return self._wait(f"{path}/{response.json()['version']}")

    def _wait(self, path: str) -> Outcome:
        deadline = time.monotonic() + _GATE_SECONDS
        while time.monotonic() < deadline:
            version = self._get(path)
            if version["state"] in _REJECTED:
                return rejected(version)
            if version["state"] in _JUDGED:
                return judged(version["state"], self._get(f"{path}/report"))
            time.sleep(_POLL_SECONDS)
        raise PipelineStuck(f"{path} is {version['state']} after {_GATE_SECONDS:.0f} s")

    def _get(self, path: str) -> dict[str, Any]:
        response = self._http.get(path)
        response.raise_for_status()
        return dict(response.json())


def _suite() -> str:
    cases = [
        {
            "id": f"q{number}",
            "prompt": f"Guest {number} would like to know about {subject}. Please tell",
            "max_tokens": 6,
        }
        for number, subject in enumerate(_SUBJECTS[:N_CASES])
    ]
    return "\n".join(json.dumps(case) for case in cases)


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        return dict(response.json())
    except ValueError:
        return {"detail": response.text[:200]}


@contextmanager
def _form(
    folder: Path, *, has_fingerprint: bool, archive: bytes | None
) -> Iterator[list[tuple[str, Any]]]:
    if archive is not None:
        yield [("archive", ("adapter.tar.gz", archive))]
        return
    # Whatever lies in the folder under a name that is uploaded: a pickle too, where one is.
    names = [CONFIG, TENSORS, "adapter_model.bin", *([FINGERPRINT_FILE] if has_fingerprint else [])]
    with ExitStack() as stack:
        yield [
            (name, (name, stack.enter_context((folder / name).open("rb"))))
            for name in names
            if (folder / name).is_file()
        ]
