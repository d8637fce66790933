"""The node's network: a bridge of its own, and for each pod a namespace with an address on it."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import random
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_NAMESPACES = Path("/run/netns")
_RANGE = ipaddress.IPv4Network("198.18.0.0/15")
"""Set aside for benchmarks (RFC 2544), so hardly any machine uses it."""
_FIRST_POD = 100
_OURS = re.compile(r"lp[bn](\d+)x\d+$")
_numbers = itertools.count()
"""Names of bridges and cables are the machine's, so all networks of a process count together."""


class NetworkUnavailable(Exception):
    """The machine has no free range, or does not let us make namespaces; the text says why."""


@dataclass(frozen=True, slots=True)
class PodLink:
    """A pod's network namespace and its address."""

    namespace: str
    cable: str
    """The host's end."""
    address: str


@dataclass
class PodNetwork:
    """A bridge `lpbPIDxN` with a /24: the host has .1, services .2 to .99, pods .100 to .254.

    Names carry the id of the process that made them: whoever comes next removes what a killed
    process left.
    """

    subnet: ipaddress.IPv4Network
    bridge: str
    _links: list[PodLink] = field(default_factory=list)
    _turns: itertools.count[int] = field(default_factory=itertools.count)
    _services: itertools.count[int] = field(default_factory=lambda: itertools.count(2))

    @classmethod
    def make(cls) -> PodNetwork:
        """Make the bridge, on a range that no route of this machine has.

        Raises:
            NetworkUnavailable: not root, or no free range.
        """
        if os.geteuid() != 0:
            raise NetworkUnavailable("only root may make network namespaces")
        _remove_what_dead_processes_left()
        subnet, bridge = _free_subnet(), f"lpb{os.getpid()}x{next(_numbers)}"
        _ip("link", "add", bridge, "type", "bridge")
        try:
            _ip("address", "add", f"{subnet[1]}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
        except NetworkUnavailable:
            _ip("link", "delete", bridge)
            raise
        return cls(subnet, bridge)

    @property
    def host_address(self) -> str:
        """Where pods find what runs on the host."""
        return str(self.subnet[1])

    def add_service_address(self) -> str:
        """One more address of the host, for a service."""
        address = str(self.subnet[next(self._services)])
        _ip("address", "add", f"{address}/24", "dev", self.bridge)
        return address

    def add_pod(self) -> PodLink:
        """A namespace that reaches the bridge and nothing else."""
        tag = f"{os.getpid()}x{next(_numbers)}"
        link = PodLink(f"lpn{tag}", f"lpv{tag}", self._free_pod_address())
        self._links.append(link)
        _ip("netns", "add", link.namespace)
        inside = ("-n", link.namespace)
        peer = ("peer", "name", f"lpw{tag}", "netns", link.namespace)
        _ip("link", "add", link.cable, "type", "veth", *peer)
        _ip("link", "set", link.cable, "master", self.bridge, "up")
        _ip(*inside, "address", "add", f"{link.address}/24", "dev", f"lpw{tag}")
        _ip(*inside, "link", "set", f"lpw{tag}", "name", "eth0", "up")
        _ip(*inside, "link", "set", "lo", "up")
        return link

    def remove_pod(self, link: PodLink) -> None:
        """The cable and the namespace."""
        self._links.remove(link)
        # The cable first: the kernel clears a namespace away some time later.
        for words in (("link", "delete", link.cable), ("netns", "delete", link.namespace)):
            # A pod whose start failed half-way lacks one of them.
            with contextlib.suppress(NetworkUnavailable):
                _ip(*words)

    def close(self) -> None:
        """Remove the bridge and whatever is still on it."""
        for link in list(self._links):
            self.remove_pod(link)
        _ip("link", "delete", self.bridge)

    def _free_pod_address(self) -> str:
        # In turn, so that a new pod does not get the address of the one that it replaces.
        used = {link.address for link in self._links}
        for _ in range(255 - _FIRST_POD):
            address = str(self.subnet[_FIRST_POD + next(self._turns) % (255 - _FIRST_POD)])
            if address not in used:
                return address
        raise NetworkUnavailable("all addresses for pods are in use")


def _free_subnet() -> ipaddress.IPv4Network:
    routes = json.loads(_ip("-json", "route", "show", "table", "all"))
    taken = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"] != "default" and ":" not in route["dst"]
    ]
    subnets = list(_RANGE.subnets(new_prefix=24))
    random.shuffle(subnets)
    for subnet in subnets:
        if not any(subnet.overlaps(network) for network in taken):
            return subnet
    raise NetworkUnavailable(f"all of {_RANGE} is in use")


def _remove_what_dead_processes_left() -> None:
    for path in _NAMESPACES.glob("lpn*x*"):
        if _is_left(path.name):
            _ip("netns", "delete", path.name)
    for link in json.loads(_ip("-json", "link", "show", "type", "bridge") or "[]"):
        if _is_left(link.get("ifname", "")):
            _ip("link", "delete", link["ifname"])


def _is_left(name: str) -> bool:
    found = _OURS.match(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _ip(*words: str) -> str:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise NetworkUnavailable("there is no `ip` (iproute2)") from exc
    if done.returncode:
        raise NetworkUnavailable(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
