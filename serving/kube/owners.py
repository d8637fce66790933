"""What a release's own objects belong to, so that nothing of them outlives an uninstall."""

from __future__ import annotations

import structlog

from serving.kube.cluster import STATEFUL_SETS, Cluster
from serving.kube.errors import KubeRefused
from serving.kube.kinds import Json

log = structlog.get_logger()


async def find_owner(cluster: Cluster, statefulset: str | None, *, of: str) -> Json | None:
    """The StatefulSet with its kind; None where it is not there, or may not be read.

    `of`: what shall belong to it, for the log.

    Raises:
        KubeError: the API server did not answer.
    """
    if statefulset is None:
        return None
    try:
        owner = await cluster.get(STATEFUL_SETS, statefulset)
    except KubeRefused as exc:
        log.warning("no owner found", of=of, owner=statefulset, reason=str(exc))
        return None
    return {"apiVersion": STATEFUL_SETS.api_version, "kind": STATEFUL_SETS.kind, **owner}


def reference_to(owner: Json) -> Json:
    """An entry of `metadata.ownerReferences`."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        # Its deletion must not wait for ours.
        "blockOwnerDeletion": False,
    }
