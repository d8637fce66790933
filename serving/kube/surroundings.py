"""A controller's surroundings in a cluster, put together from settings.

The Lease has a client of its own with short requests: a slow list of pods must not cost the lead.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial

from adapters.parity.reference_client import ReferenceClient
from serving.controller.context import ControllerContext
from serving.controller.surroundings import Companion, OpenSurroundings, Surroundings
from serving.kube.cluster import Cluster
from serving.kube.engine_pods import NAME as ENGINE_PODS
from serving.kube.engine_pods import run_engine_pods
from serving.kube.lease import LeaseLeadership
from serving.kube.lora_adapters import NAME as LORA_ADAPTERS
from serving.kube.lora_adapters import run_lora_adapters
from serving.kube.reference_job import job_reference
from serving.settings import KubernetesSettings, SettingInvalid

LEADERSHIP = "leadership"
"""Of the Lease's turns, as `task` in `loraplane_background_failures_total`."""
_LEASE_REQUEST_SECONDS = 4.0


def in_cluster(settings: KubernetesSettings) -> OpenSurroundings:
    """What a replica in a cluster opens when it starts.

    Raises:
        SettingInvalid: a runner that is not known, or a Job without its template.
    """
    if settings.reference_runner not in ("process", "job"):
        raise SettingInvalid(
            name="LORAPLANE_REFERENCE_RUNNER",
            value=settings.reference_runner,
            wanted="process or job",
        )
    if settings.reference_runner == "job" and settings.reference_job is None:
        raise SettingInvalid(
            name="LORAPLANE_REFERENCE_JOB", value="", wanted="the file of the Job's template"
        )
    return partial(_open, settings)


@contextlib.asynccontextmanager
async def _open(
    settings: KubernetesSettings, context: ControllerContext
) -> AsyncIterator[Surroundings]:
    async with contextlib.AsyncExitStack() as stack:
        cluster = await _connect(stack, settings)
        for_lease = await _connect(stack, settings, request_seconds=_LEASE_REQUEST_SECONDS)
        # Not the pod's name alone: a container that is started again keeps it.
        identity = f"{_instance(settings)}_{secrets.token_hex(4)}"
        failures = context.metrics.background_failures.labels(LEADERSHIP)
        leadership = LeaseLeadership(
            for_lease,
            name=settings.lease_name,
            identity=identity,
            floor=context.repository.leadership.term,
            on_failure=failures.inc,
        ).owned_by(settings.engine_statefulset)
        yield Surroundings(
            leadership=leadership,
            reference=_reference(settings, cluster, context, leadership),
            companions=_companions(settings, cluster),
        )


async def _connect(
    stack: contextlib.AsyncExitStack, settings: KubernetesSettings, **how: float
) -> Cluster:
    cluster = await Cluster.connect(
        namespace=settings.namespace, kubeconfig=settings.kubeconfig, **how
    )
    stack.push_async_callback(cluster.close)
    return cluster


def _instance(settings: KubernetesSettings) -> str:
    return settings.pod_name or socket.gethostname()


def _reference(
    settings: KubernetesSettings,
    cluster: Cluster,
    context: ControllerContext,
    leadership: LeaseLeadership,
) -> Callable[[ControllerContext], ReferenceClient] | None:
    template = settings.reference_job
    if settings.reference_runner != "job" or template is None:
        return None

    def make(context: ControllerContext) -> ReferenceClient:
        owner = settings.engine_statefulset
        return job_reference(
            context,
            cluster,
            template=template,
            owner=owner,
            is_held=lambda: leadership.is_held,
        )

    # A template that cannot be used shall end the start, not each lead.
    make(context)
    return make


def _companions(settings: KubernetesSettings, cluster: Cluster) -> tuple[Companion, ...]:
    async def follow_lora_adapters(context: ControllerContext) -> None:
        await run_lora_adapters(context, cluster, instance=_instance(settings))

    selector, statefulset = settings.engine_selector, settings.engine_statefulset

    async def follow_engine_pods(context: ControllerContext) -> None:
        await run_engine_pods(context, cluster, str(selector), str(statefulset))

    found = []
    if settings.lora_adapters:
        found.append(Companion(LORA_ADAPTERS, follow_lora_adapters))
    if selector is not None and statefulset is not None:
        found.append(Companion(ENGINE_PODS, follow_engine_pods))
    return tuple(found)
