"""A LoraAdapter object, what is remembered of it, and what follows from the two. Pure.

Level triggered: what to do is computed from what is, never from what just happened. `lora_status`
says it in the object's status; `lora_adapters` is the loop that does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adapters.errors import NameError_
from adapters.identity import parse_adapter_name, parse_tenant_id
from adapters.source_errors import SourceInvalid
from adapters.source_uri import parse_source_uri
from serving.controller.lifecycle import State
from serving.controller.registry.managed import ManagedAdapter
from serving.kube.kinds import Json

MAX_NAME_LENGTH = 63
"""Of an object's name: it becomes part of an audit row's actor."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object is not accepted. `reason` is CamelCase and stable, `message` for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SuiteRef:
    """A tenant's suite by name; with `config_map` the content that is stored under the name."""

    name: str
    config_map: tuple[str, str] | None = None
    """(name, key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `spec` asks for, checked."""

    tenant: str
    adapter: str
    uri: str
    secret: str | None = None
    suite: SuiteRef | None = None
    promote: str = "auto"
    retires: bool = False
    """deletionPolicy: Retire."""

    @property
    def key(self) -> tuple[str, str]:
        """What only one object may manage."""
        return self.tenant, self.adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One LoraAdapter object."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: str
    is_leaving: bool = False
    """Deleted, but held by somebody's finalizer."""
    wanted: Wanted | None = None
    """None: `problem` says why."""
    problem: Problem | None = None

    @property
    def actor(self) -> str:
        """Who did it, in the audit."""
        return actor_of(self.namespace, self.name)


def actor_of(namespace: str, name: str) -> str:
    """The audit's name of an object."""
    return f"kubernetes:{namespace}/{name}"


def parse_resource(body: Json) -> Resource:
    """Read an object as the API server gives it.

    The API server has checked it against the schema, but perhaps against an older one: whatever
    does not fit becomes the resource's `problem`, never an exception.
    """
    facts = body["metadata"]
    wanted, problem = None, None
    try:
        wanted = _parse_spec(str(facts["name"]), body.get("spec"))
    except _SpecInvalid as exc:
        problem = Problem("InvalidSpec", exc.problem)
    return Resource(
        namespace=str(facts["namespace"]),
        name=str(facts["name"]),
        uid=str(facts["uid"]),
        generation=int(facts.get("generation") or 0),
        created_at=str(facts.get("creationTimestamp") or ""),
        is_leaving=facts.get("deletionTimestamp") is not None,
        wanted=wanted,
        problem=problem,
    )


class _SpecInvalid(Exception):
    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def _parse_spec(name: str, spec: Any) -> Wanted:
    if len(name) > MAX_NAME_LENGTH:
        raise _SpecInvalid(f"metadata.name has more than {MAX_NAME_LENGTH} characters")
    if not isinstance(spec, dict):
        raise _SpecInvalid("spec is missing")
    source = spec.get("source")
    if not isinstance(source, dict):
        raise _SpecInvalid("spec.source is missing")
    try:
        tenant = parse_tenant_id(_text(spec, "tenant"))
        adapter = parse_adapter_name(_text(spec, "adapter"))
        uri = str(parse_source_uri(_text(source, "uri")))
        suite = _parse_suite(spec.get("suite"))
    except (NameError_, SourceInvalid) as exc:
        raise _SpecInvalid(str(exc)) from exc
    secret = source.get("secretRef")
    return Wanted(
        tenant=tenant,
        adapter=adapter,
        uri=uri,
        secret=None if secret is None else _text(secret, "name"),
        suite=suite,
        promote=_choice(spec, "promote", ("auto", "manual")),
        retires=_choice(spec, "deletionPolicy", ("Retain", "Retire")) == "Retire",
    )


def _parse_suite(suite: Any) -> SuiteRef | None:
    if suite is None:
        return None
    name = parse_adapter_name(_text(suite, "name"))
    reference = suite.get("configMapRef")
    if reference is None:
        return SuiteRef(name)
    return SuiteRef(name, (_text(reference, "name"), _text(reference, "key")))


def _text(fields: Any, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, str) or not value:
        raise _SpecInvalid(f"{name} is missing")
    return value


def _choice(spec: Mapping[str, Any], name: str, allowed: tuple[str, str]) -> str:
    value = spec.get(name, allowed[0])
    if value not in allowed:
        raise _SpecInvalid(f"spec.{name} is {allowed[0]} or {allowed[1]}")
    return str(value)


def choose_owners(resources: Iterable[Resource]) -> dict[tuple[str, str], Resource]:
    """By (tenant, adapter), the object that manages it: the oldest that is not being deleted."""
    owners: dict[tuple[str, str], Resource] = {}
    for resource in resources:
        if resource.wanted is None or resource.is_leaving:
            continue
        present = owners.setdefault(resource.wanted.key, resource)
        if (resource.created_at, resource.uid) < (present.created_at, present.uid):
            owners[resource.wanted.key] = resource
    return owners


class Plan(StrEnum):
    """What to do about one object; they complete "its source shall ..."."""

    REST = "rest"
    """Nothing to do before something changes."""
    FOLLOW = "follow"
    """The registry shall remember this object, or its changed deletionPolicy, first."""
    LOOK = "look"
    """The source shall be looked at: for a new generation, or because it is time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides about an object besides itself."""

    has_tenant: bool
    owner: Resource | None
    """Who manages its tenant and adapter."""
    record: ManagedAdapter | None
    """What the registry remembers of that tenant and adapter, of whichever object."""
    is_look_due: bool = False
    """It is time to look at a source that was registered before."""


def find_problem(resource: Resource, standing: Standing) -> Problem | None:
    """Why the object cannot be accepted as things are; None: nothing is in its way."""
    if resource.wanted is None:
        return resource.problem
    owner = standing.owner
    if owner is not None and owner.uid != resource.uid:
        text = (
            f"{resource.wanted.tenant}/{resource.wanted.adapter} is managed by the older "
            f"LoraAdapter {owner.name}"
        )
        return Problem("Conflict", text)
    if not standing.has_tenant:
        text = f"the controller has no tenant {resource.wanted.tenant}; it is looked for again"
        return Problem("TenantNotFound", text)
    return None


def plan_adapter(resource: Resource, standing: Standing) -> Plan:
    """What to do next; `REST` for an object that is being deleted or cannot be accepted."""
    if resource.is_leaving or find_problem(resource, standing) is not None:
        return Plan.REST
    record = standing.record
    if record is None:
        return Plan.LOOK
    if not _is_followed(resource, record):
        return Plan.FOLLOW
    if record.generation != resource.generation or standing.is_look_due:
        return Plan.LOOK
    return Plan.REST


def _is_followed(resource: Resource, record: ManagedAdapter) -> bool:
    retires = resource.wanted is not None and resource.wanted.retires
    return (record.uid, record.retires) == (resource.uid, retires)


class Follow(StrEnum):
    """What a version that existed before shall do; they complete "it shall ..."."""

    STAY = "stay"
    CHANGE = "change"
    """Before the gate answers, it shall learn how to go on then."""
    REEVALUATE = "reevaluate"
    """The gate shall ask it the suite that is wanted now."""
    PROMOTE = "promote"
    RESTORE = "restore"
    """It was live before, and its content is what is wanted again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A version whose bytes the source holds, and that was there before this look."""

    state: State
    suite_id: str | None
    promote: str
    is_new_wish: bool
    """The object has a new generation, or its source other bytes than at the last look."""
    is_other_version: bool
    """The last look found another version."""


def plan_known(known: Known, *, promote: str, suite_id: str | None) -> Follow:
    """What to do with a known version; a wish is carried out once, not again and again.

    So what people do by hand (a rollback, a retirement) stands until the object changes.
    """
    judged = {State.PASSED, State.FAILED, State.INCONCLUSIVE}
    if known.state in judged and suite_id != known.suite_id:
        return Follow.REEVALUATE
    if known.state in (State.VALIDATING, State.EVALUATING):
        # A suite is not exchanged under a running evaluation.
        is_other_suite = known.state is State.VALIDATING and suite_id != known.suite_id
        return Follow.CHANGE if is_other_suite or promote != known.promote else Follow.STAY
    if promote != "auto" or not known.is_new_wish:
        return Follow.STAY
    if known.state is State.PASSED:
        return Follow.PROMOTE
    if known.state is State.SUPERSEDED and known.is_other_version:
        return Follow.RESTORE
    return Follow.STAY


def find_gone(
    records: Iterable[ManagedAdapter], present: Mapping[str, Resource]
) -> list[ManagedAdapter]:
    """Records whose object is not among ALL that there are, by uid. Ask only with a whole list."""
    return [record for record in records if record.uid not in present]
