"""What is done for one LoraAdapter: its source is looked at, fetched, registered, and led on.

Every way it can end is a value: `Looked`, or a `Problem` that the object's status repeats. Only
what says nothing about the object (the registry or the API server is away) is raised.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from adapters.durable import scratch_folder, sweep_scratch
from adapters.errors import (
    AdapterError,
    ArchiveRefused,
    ArtifactTooLarge,
    ManifestInvalid,
    StoreUnavailable,
    SuiteInvalid,
)
from adapters.manifest import manifest_of_folder
from adapters.parity.suite import MAX_SUITE_BYTES, parse_suite
from adapters.source import AdapterSource
from adapters.source_errors import (
    SourceError,
    SourceForbidden,
    SourceInvalid,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreachable,
)
from serving.controller.context import ControllerContext
from serving.controller.errors import IllegalTransition, NotFound, OverrideNeeded
from serving.controller.lifecycle import State
from serving.controller.promotion import promote_version, restore_version
from serving.controller.registry.managed import Found, ManagedAdapter, Manager
from serving.controller.registry.tables import SuiteRow, VersionRow
from serving.controller.registry.versions import Upload
from serving.kube.cluster import Cluster
from serving.kube.errors import KubeForbidden, KubeNotFound
from serving.kube.kinds import CONFIG_MAPS, SECRETS, Json, Kind
from serving.kube.lora_adapter import (
    Follow,
    Known,
    Problem,
    Resource,
    SuiteRef,
    Wanted,
    plan_known,
)

FETCH_SECONDS = 1800.0
"""How long bringing one adapter may take."""
_MIN_BYTES_PER_SECOND = 256 * 1024
"""A source that is slower holds up the others: far below any place that serves models."""
_N_ASKED, _N_FETCHED = 8, 4
"""At once: sources that are asked whether they have changed, and such that are read."""

log = structlog.get_logger()

_REASONS: Mapping[type[AdapterError], str] = {
    SourceInvalid: "SourceInvalid",
    SourceForbidden: "SourceForbidden",
    SourceNotFound: "SourceNotFound",
    SourceTooLarge: "SourceTooLarge",
    SourceUnreachable: "SourceUnreachable",
    SourceError: "SourceUnreachable",
    ArchiveRefused: "ArtifactInvalid",
    ArtifactTooLarge: "SourceTooLarge",
    ManifestInvalid: "ArtifactInvalid",
    SuiteInvalid: "SuiteInvalid",
    StoreUnavailable: "StoreUnavailable",
}


@dataclass(frozen=True, slots=True)
class Looked:
    """The source was looked at, and what it holds is registered."""

    version_id: str
    is_new: bool = False


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        self.problem = Problem(reason, message)
        super().__init__(message)


class LoraDeeds:
    """Does for objects what their plans say."""

    def __init__(self, context: ControllerContext, cluster: Cluster) -> None:
        """Nothing is done yet."""
        self._context, self._cluster = context, cluster
        self._asking = asyncio.Semaphore(_N_ASKED)
        self._fetching = asyncio.Semaphore(_N_FETCHED)

    @property
    def _scratch(self) -> Path:
        return self._context.settings.data_dir / "work" / "sources"

    def manager(self, resource: Resource) -> Manager:
        """Who manages, as the registry remembers it."""
        retires = resource.wanted is not None and resource.wanted.retires
        return Manager(
            uid=resource.uid, namespace=resource.namespace, name=resource.name, retires=retires
        )

    async def look(
        self, resource: Resource, wanted: Wanted, record: ManagedAdapter | None
    ) -> Looked | Problem:
        """Register what the source holds unless it is; `record` is this object's own, or None.

        Raises:
            RegistryError, KubeError: says nothing about the object.
        """
        try:
            return await self._look(resource, wanted, record)
        except _Refused as exc:
            return exc.problem
        except AdapterError as exc:
            reason = next((_REASONS[kind] for kind in type(exc).__mro__ if kind in _REASONS), None)
            if reason is None:
                raise
            return Problem(reason, str(exc))
        except NotFound as exc:
            return Problem("TenantNotFound", str(exc))

    async def _look(
        self, resource: Resource, wanted: Wanted, record: ManagedAdapter | None
    ) -> Looked:
        async with self._asking:
            source = AdapterSource.open(
                wanted.uri,
                credentials=await self._credentials(wanted),
                folders=self._context.settings.folders_of_sources,
            )
            suite_id = await self._suite(resource, wanted)
            mark = await source.mark()
        if record is not None and (record.source_uri, record.source_mark) == (wanted.uri, mark):
            row, is_new = await self._context.repository.versions.find(record.version_id), False
        else:
            async with self._fetching:
                row, is_new, mark = await self._register(resource, wanted, source, suite_id)
        if not is_new:
            await self._lead_on(resource, wanted, record, row, suite_id)
        found = Found(generation=resource.generation, source_uri=wanted.uri, source_mark=mark)
        remembered = record is not None and (
            (record.generation, record.source_uri, record.source_mark)
            == (found.generation, found.source_uri, found.source_mark)
        )
        if not remembered:
            await self._context.repository.managed.follow(
                wanted.tenant, wanted.adapter, self.manager(resource), actor=resource.actor,
                found=found,
            )  # fmt: skip
        self._context.hint()
        return Looked(row.id, is_new)

    async def _register(
        self, resource: Resource, wanted: Wanted, source: AdapterSource, suite_id: str | None
    ) -> tuple[VersionRow, bool, str]:
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(sweep_scratch, self._scratch)
        with scratch_folder(self._scratch) as folder:
            try:
                async with asyncio.timeout(FETCH_SECONDS):
                    fetched = await source.fetch(
                        folder,
                        max_bytes=self._context.settings.max_upload_bytes,
                        min_bytes_per_second=_MIN_BYTES_PER_SECOND,
                    )
            except TimeoutError as exc:
                text = f"bringing it took longer than {FETCH_SECONDS:.0f} s"
                raise SourceUnreachable(uri=wanted.uri, reason=text) from exc
            manifest = await asyncio.to_thread(manifest_of_folder, fetched.folder)
            await self._context.store.put(manifest, fetched.folder)
        upload = Upload(
            tenant_id=wanted.tenant,
            adapter=wanted.adapter,
            digest=manifest.digest,
            files=manifest.to_json()["files"],
            created_by=resource.actor,
            promote_mode=wanted.promote,
            suite_id=suite_id,
        )
        # The generation is remembered once the version has been led on: a crash before leads again.
        found = Found(generation=0, source_uri=wanted.uri, source_mark=fetched.mark)
        row, is_new = await self._context.repository.managed.register(
            upload, self.manager(resource), found
        )
        log.info("adapter registered", version=row.id, is_new=is_new, by=resource.actor)
        return row, is_new, fetched.mark

    async def _lead_on(
        self,
        resource: Resource,
        wanted: Wanted,
        record: ManagedAdapter | None,
        row: VersionRow,
        suite_id: str | None,
    ) -> None:
        # Generation 0: it was registered, and then nothing more was done.
        is_other = record is None or record.version_id != row.id or record.generation == 0
        is_new_wish = is_other or (record is not None and record.generation != resource.generation)
        known = Known(
            state=State(row.state),
            suite_id=row.suite_id,
            promote=row.promote_mode,
            is_new_wish=is_new_wish,
            is_other_version=is_other,
        )
        follow = plan_known(known, promote=wanted.promote, suite_id=suite_id)
        managed, actor = self._context.repository.managed, resource.actor
        try:
            match follow:
                case Follow.REEVALUATE:
                    await managed.ask_again(
                        row.id, promote_mode=wanted.promote, suite_id=suite_id, actor=actor
                    )
                case Follow.PROMOTE:
                    await promote_version(self._context, row.id, actor=actor)
                case Follow.RESTORE:
                    reason = "its object's source holds it again"
                    await restore_version(self._context, row, actor=actor, reason=reason)
                case Follow.STAY:
                    return
                case Follow.CHANGE:
                    await managed.wish(
                        row.id, promote_mode=wanted.promote, suite_id=suite_id, actor=actor
                    )
        except (IllegalTransition, OverrideNeeded) as exc:
            # It moved on meanwhile, or its re-check failed: its state says so, and stands.
            log.info("version stays", version=row.id, wish=follow.value, code=exc.code)

    async def _credentials(self, wanted: Wanted) -> dict[str, str] | None:
        if wanted.secret is None:
            return None
        data = (await self._read(SECRETS, "Secret", wanted.secret)).get("data") or {}
        try:
            return {key: _decoded(value).decode() for key, value in data.items()}
        except ValueError as exc:
            raise _Refused("SecretInvalid", "a value of the Secret is not text") from exc

    async def _suite(self, resource: Resource, wanted: Wanted) -> str | None:
        suite, tenants = wanted.suite, self._context.repository.tenants
        if suite is None:
            return None
        if suite.config_map is not None:
            row = await self._suite_of_config_map(wanted.tenant, suite, suite.config_map)
            stored, _ = await tenants.put_suite(row, actor=resource.actor)
            return stored.id
        try:
            return (await tenants.find_suite(wanted.tenant, suite.name)).id
        except NotFound:
            text = f"tenant {wanted.tenant} has no suite {suite.name}; it is looked for again"
            raise _Refused("SuiteNotFound", text) from None

    async def _suite_of_config_map(
        self, tenant: str, suite: SuiteRef, reference: tuple[str, str]
    ) -> SuiteRow:
        name, key = reference
        found = await self._read(CONFIG_MAPS, "ConfigMap", name)
        text = (found.get("data") or {}).get(key)
        binary = (found.get("binaryData") or {}).get(key)
        if text is None and binary is None:
            raise _Refused("SuiteNotFound", f"ConfigMap {name} has no key {key}")
        body = text.encode() if text is not None else _decoded(str(binary))
        if len(body) > MAX_SUITE_BYTES:
            raise _Refused("SuiteInvalid", f"the suite has more than {MAX_SUITE_BYTES} bytes")
        parsed = await asyncio.to_thread(parse_suite, body)
        return SuiteRow(
            tenant_id=tenant,
            name=suite.name,
            digest=await asyncio.to_thread(lambda: parsed.digest),
            n_cases=len(parsed.cases),
            content=body.decode(),
            contamination=None,
        )

    async def _read(self, kind: Kind, word: str, name: str) -> Json:
        try:
            return await self._cluster.get(kind, name)
        except KubeNotFound:
            raise _Refused(f"{word}NotFound", f"there is no {word} {name} here") from None
        except KubeForbidden:
            text = f"the controller may not read {word} {name}; allow it in the release's values"
            raise _Refused(f"{word}Forbidden", text) from None


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise _Refused("SecretInvalid", "a value is not base64") from exc
