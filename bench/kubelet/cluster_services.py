"""The services of one namespace: who is behind each, their names, and their cluster IPs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.kubelet.names import ZONE
from bench.kubelet.network import PodNetwork
from bench.kubelet.objects import Json, port_number, selects
from bench.kubelet.pod import Pod
from bench.kubelet.relays import Relay, Target

_PROTOCOLS = ("TCP",)


class ClusterServices:
    """Follows the pods: an endpoint is a pod that is ready and has not been told to leave."""

    def __init__(
        self, network: PodNetwork, namespace: str, pods: Callable[[], Iterable[Pod]]
    ) -> None:
        self._network, self._namespace, self._pods = network, namespace, pods
        self._services: dict[str, Json] = {}
        self._outside: dict[str, str] = {}
        self.cluster_ips: dict[str, str] = {}
        """By the service's name; a headless one has none."""
        self._relays: list[Relay] = []

    async def add(self, service: Json) -> None:
        """Give a service its cluster IP and listen there; again for a changed one is nothing."""
        name, spec = service["metadata"]["name"], service["spec"]
        is_new = name not in self._services
        self._services[name] = service
        if not is_new or spec.get("clusterIP") == "None":
            return
        self.cluster_ips[name] = self._network.add_service_address()
        for port in spec["ports"]:
            if port.get("protocol", "TCP") in _PROTOCOLS:
                await self._listen(self.cluster_ips[name], port["port"], self._behind(name, port))

    async def add_outside(self, full_name: str, port: int, target: Target) -> str:
        """A service whose endpoint is on the host; its cluster IP."""
        address = self._network.add_service_address()
        self._outside[full_name] = address
        await self._listen(address, port, lambda: [target])
        return address

    async def close(self) -> None:
        """End all connections through cluster IPs."""
        for relay in self._relays:
            await relay.close()

    def services(self) -> list[Json]:
        """All of the namespace's own."""
        return list(self._services.values())

    def endpoints(self, service: Json) -> list[Pod]:
        """The pods that a service leads to now."""
        selector = service["spec"].get("selector") or {}
        takes_all = service["spec"].get("publishNotReadyAddresses", False)
        return [
            pod
            for pod in self._pods()
            if selects(selector, pod.body.labels) and (pod.is_ready or takes_all)
        ]

    def addresses(self, name: str) -> Sequence[str] | None:
        """What the cluster's DNS says; None: no such name, also for a headless service of none."""
        short = name.removesuffix(f".svc.{ZONE}")
        if short == name:
            return None
        if short in self._outside:
            return [self._outside[short]]
        *host, service_name, namespace = ["", *short.split(".")]
        service = self._services.get(service_name)
        if service is None or namespace != self._namespace:
            return None
        wanted = ".".join(filter(None, host))
        if not wanted and service_name in self.cluster_ips:
            return [self.cluster_ips[service_name]]
        found = [
            pod.where.address
            for pod in self.endpoints(service)
            if not wanted
            or (wanted, service_name)
            == (pod.body.spec.get("hostname"), pod.body.spec.get("subdomain"))
        ]
        return found or None

    def _behind(self, name: str, port: Json) -> Callable[[], list[Target]]:
        def targets() -> list[Target]:
            wanted: int | str = port.get("targetPort") or port["port"]
            return [
                (pod.where.address, port_number(wanted, pod.body.spec))
                for pod in self.endpoints(self._services[name])
            ]

        return targets

    async def _listen(self, address: str, port: int, targets: Callable[[], list[Target]]) -> None:
        relay = Relay(targets)
        await relay.start(address, port)
        self._relays.append(relay)
