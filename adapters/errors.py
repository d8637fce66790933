"""Errors of this package, as a tree.

AdapterError
├── NameError_
│   ├── InvalidName              not a legal tenant, adapter, version or digest
│   └── ReservedName             a word that the engine or the API gives a meaning of its own
├── ArtifactError
│   ├── ArtifactRefused          one or more blocking findings; carries them
│   ├── ConfigInvalid            adapter_config.json cannot be read
│   ├── TensorFileInvalid        not a well-formed safetensors file
│   ├── ManifestInvalid          a list of files that cannot be read or names no artifact
│   ├── ArchiveRefused           an upload archive that is unsafe or not what it says
│   ├── ArtifactTooLarge         over a stated limit
│   └── DigestMismatch           bytes are not the ones that were addressed
├── StoreError
│   ├── ArtifactNotFound         the store answered: no such artifact
│   └── StoreUnavailable         the store did not answer; says nothing about the artifact
├── BaseModelError               a base folder that cannot be read as a model
├── SourceError                  a place that adapters are fetched from: see `source_errors`
└── ParityError
    ├── SuiteInvalid             a suite that cannot be parsed; carries line, field and fix
    ├── TrainingSetInvalid       a training set that cannot be read; carries line, field and fix
    ├── SuiteContaminated        too many cases are near-duplicates of the training set
    ├── ContaminationFailed      the comparison with a training set died or took too long
    ├── PolicyInvalid            a gate policy that cannot be read; carries field and fix
    ├── FingerprintInvalid       a training fingerprint that cannot be parsed
    ├── StrictLoadFailed         the standalone side did not consume exactly the file's tensors
    ├── ReferenceUnavailable     there is no standalone process to ask; says nothing of an adapter
    ├── ReferenceFailed          the standalone process died over a request, or answered nonsense
    └── RunnerError              a standalone deployment that cannot be used; never a verdict
        ├── RunnerUnreachable    it did not answer, or said "not now"
        ├── RunnerRefused        it answered with an error status
        ├── RunnerAnswerInvalid  it answered 200 with something else than an answer
        └── TokensUnavailable    it gives texts alone: level 1 cannot be measured with it

Classes carry data; `code` is a stable public slug, `title` a constant sentence, the text is built
from the fields. No HTTP word here: `serving.controller.problems` holds the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class AdapterError(Exception):
    """Base of all errors of `adapters`; `fields` holds the data, JSON-ready."""

    code: ClassVar[str] = "adapter_error"
    title: ClassVar[str] = "The adapter was refused."

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(self.detail())

    def detail(self) -> str:
        """One sentence with the data in it."""
        data = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"{self.title} ({data})" if data else self.title

    def __str__(self) -> str:
        return self.detail()


class NameError_(AdapterError):  # noqa: N801 - `NameError` is a builtin
    """A name that cannot be used."""

    code = "name_error"


class InvalidName(NameError_):
    """Not a legal name of its kind."""

    code = "invalid_name"
    title = (
        "The name is not legal: use 1 to 63 of a-z, 0-9, '.', '_', '-', "
        "starting and ending alphanumeric."
    )

    def __init__(self, *, kind: str, value: str) -> None:
        super().__init__(kind=kind, value=value)


class ReservedName(NameError_):
    """A word that the engine or the API gives a meaning of its own."""

    code = "reserved_name"
    title = "The name is reserved."

    def __init__(self, *, kind: str, value: str) -> None:
        super().__init__(kind=kind, value=value)


class ArtifactError(AdapterError):
    """Something is wrong with the bytes."""

    code = "artifact_error"


class ArtifactRefused(ArtifactError):
    """One or more blocking findings; `findings` is their JSON form."""

    code = "artifact_refused"
    title = "The adapter was refused by preflight."

    def __init__(self, *, findings: Sequence[dict[str, Any]]) -> None:
        super().__init__(findings=list(findings))


class ConfigInvalid(ArtifactError):
    """adapter_config.json cannot be read; `field` is empty when the whole file is meant."""

    code = "config_invalid"
    title = "adapter_config.json cannot be read."

    def __init__(self, *, field: str, problem: str) -> None:
        super().__init__(field=field, problem=problem)


class TensorFileInvalid(ArtifactError):
    """Not a well-formed safetensors file; `reason` is a stable slug."""

    code = "tensor_file_invalid"
    title = "The file is not a well-formed safetensors file."

    def __init__(self, *, reason: str, tensor: str | None = None, found: Any = None) -> None:
        super().__init__(reason=reason, tensor=tensor, found=found)


class ManifestInvalid(ArtifactError):
    """A list of files that cannot be read, or that names no artifact."""

    code = "manifest_invalid"
    title = "The manifest is not valid."

    def __init__(self, *, problem: str, file: str | None = None) -> None:
        super().__init__(problem=problem, file=file)


class ArchiveRefused(ArtifactError):
    """An upload archive that is unsafe, or not what it says."""

    code = "archive_refused"
    title = "The archive was refused."

    def __init__(self, *, reason: str, member: str | None = None) -> None:
        super().__init__(reason=reason, member=member)


class ArtifactTooLarge(ArtifactError):
    """Over a limit; the limit is in the error."""

    code = "artifact_too_large"
    title = "The artifact is larger than allowed."

    def __init__(self, *, what: str, limit: int, found: int | None = None) -> None:
        super().__init__(what=what, limit=limit, found=found)


class DigestMismatch(ArtifactError):
    """Bytes are not the ones that were addressed."""

    code = "digest_mismatch"
    title = "The bytes do not have the digest that addresses them."

    def __init__(self, *, expected: str, found: str, file: str | None = None) -> None:
        super().__init__(expected=expected, found=found, file=file)


class StoreError(AdapterError):
    """The artifact store."""

    code = "store_error"


class ArtifactNotFound(StoreError):
    """The store answered: no such artifact."""

    code = "artifact_not_found"
    title = "The store holds no such artifact."

    def __init__(self, *, digest: str) -> None:
        super().__init__(digest=digest)


class StoreUnavailable(StoreError):
    """The store did not answer; this says nothing about the artifact."""

    code = "store_unavailable"
    title = "The artifact store cannot be reached."

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(url=url, reason=reason)


class BaseModelError(AdapterError):
    """A base folder that cannot be read as a model."""

    code = "base_model_error"
    title = "The base model folder cannot be read."

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)


class ParityError(AdapterError):
    """The parity gate could not do its work; never a verdict about the adapter by itself."""

    code = "parity_error"


class SuiteInvalid(ParityError):
    """A suite that cannot be parsed; names line, field and fix."""

    code = "suite_invalid"
    title = "The suite is not valid."

    def __init__(self, *, line: int, field: str, problem: str, fix: str) -> None:
        super().__init__(line=line, field=field, problem=problem, fix=fix)


class PolicyInvalid(ParityError):
    """A gate policy that cannot be read; names field and fix. An empty field: all of it."""

    code = "policy_invalid"
    title = "The gate policy is not valid."

    def __init__(self, *, field: str, problem: str, fix: str) -> None:
        super().__init__(field=field, problem=problem, fix=fix)


class TrainingSetInvalid(ParityError):
    """A training set that cannot be read; names line, field and fix."""

    code = "training_set_invalid"
    title = "The training set is not valid."

    def __init__(self, *, line: int, field: str, problem: str, fix: str) -> None:
        super().__init__(line=line, field=field, problem=problem, fix=fix)


class SuiteContaminated(ParityError):
    """Too many of the suite's cases are near-duplicates of the training set; names the first."""

    code = "suite_contaminated"
    title = "The suite holds too many cases that the adapter was trained on; nothing was stored."

    def __init__(
        self,
        *,
        n_leaked: int,
        n_cases: int,
        fraction: float,
        limit: float,
        errors: Sequence[dict[str, Any]],
        **more: Any,
    ) -> None:
        super().__init__(
            n_leaked=n_leaked,
            n_cases=n_cases,
            fraction=fraction,
            limit=limit,
            errors=list(errors),
            **more,
        )


class ContaminationFailed(ParityError):
    """The comparison with a training set died or took too long; nothing was stored."""

    code = "contamination_failed"
    title = "The suite could not be compared with the training set; nothing was stored."

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason=reason)


class FingerprintInvalid(ParityError):
    """A training fingerprint that cannot be parsed."""

    code = "fingerprint_invalid"
    title = "loraplane_fingerprint.json is not valid."

    def __init__(self, *, field: str, problem: str) -> None:
        super().__init__(field=field, problem=problem)


class StrictLoadFailed(ParityError):
    """The standalone side did not consume exactly the file's tensors."""

    code = "strict_load_failed"
    title = "The standalone model did not consume exactly the file's tensors."

    def __init__(
        self,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        non_finite: Sequence[str] = (),
        problem: str = "",
    ) -> None:
        super().__init__(
            missing=list(missing),
            unexpected=list(unexpected),
            non_finite=list(non_finite),
            problem=problem,
        )


class ReferenceUnavailable(ParityError):
    """There is no standalone process to ask, or none with the base loaded; never a verdict."""

    code = "reference_unavailable"
    title = "There is no standalone reference process to ask."

    def __init__(self, *, reason: str, log_tail: str = "") -> None:
        super().__init__(reason=reason, log_tail=log_tail)


class ReferenceFailed(ParityError):
    """The standalone process died over a request, or answered nonsense."""

    code = "reference_failed"
    title = "The standalone reference process failed."

    def __init__(self, *, reason: str, log_tail: str = "") -> None:
        super().__init__(reason=reason, log_tail=log_tail)


class RunnerError(ParityError):
    """A standalone deployment that cannot be used; says nothing about the adapter."""

    code = "runner_error"
    title = "The standalone deployment cannot be used."


class RunnerUnreachable(RunnerError):
    """The standalone deployment did not answer, or said "not now"; worth another try."""

    code = "runner_unreachable"
    title = "The standalone deployment cannot be reached."

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(url=url, reason=reason)


class RunnerRefused(RunnerError):
    """The standalone deployment answered with an error status."""

    code = "runner_refused"
    title = "The standalone deployment refused a request."

    def __init__(self, *, url: str, status: int, case_id: str | None, reason: str | None) -> None:
        super().__init__(url=url, status=status, case_id=case_id, reason=reason)


class RunnerAnswerInvalid(RunnerError):
    """The standalone deployment answered 200 with something else than an answer."""

    code = "runner_answer_invalid"
    title = "The standalone deployment's answer cannot be read."

    def __init__(self, *, url: str, case_id: str | None, problem: str) -> None:
        super().__init__(url=url, case_id=case_id, problem=problem)


class TokensUnavailable(RunnerError):
    """This runner gives texts alone: level 1 cannot be measured with it."""

    code = "tokens_unavailable"
    title = "The standalone deployment gives no token probabilities."

    def __init__(self, *, runner: str, reason: str) -> None:
        super().__init__(runner=runner, reason=reason)
