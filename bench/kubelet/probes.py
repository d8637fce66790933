"""A pod's probes: asked as often as they say, counted by their thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from bench.kubelet.container import Container
from bench.kubelet.objects import Json, port_number

_DEFAULTS = {
    "initialDelaySeconds": 0,
    "periodSeconds": 10,
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}


async def is_passed(probe: Json, pod_spec: Json, address: str, container: Container) -> bool:
    """Ask once.

    Raises:
        ProbeUnknown: a kind of probe that is not played here.
    """
    seconds = float(probe.get("timeoutSeconds", _DEFAULTS["timeoutSeconds"]))
    if "exec" in probe:
        try:
            status, _ = await container.run(probe["exec"]["command"], seconds=seconds)
        except TimeoutError:
            return False
        return status == 0
    if "httpGet" not in probe:
        raise ProbeUnknown(sorted(probe))
    asked = probe["httpGet"]
    port = port_number(asked["port"], pod_spec)
    url = f"{asked.get('scheme', 'HTTP').lower()}://{address}:{port}{asked.get('path', '/')}"
    headers = {each["name"]: each["value"] for each in asked.get("httpHeaders") or ()}
    try:
        async with asyncio.timeout(seconds):
            # The kubelet does not check a pod's certificate either.
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # noqa: S501
                answer = await client.get(url, headers=headers, follow_redirects=False)
    except (httpx.TransportError, TimeoutError):
        return False
    return 200 <= answer.status_code < 400


class ProbeUnknown(Exception):
    """A kind of probe that is not played here."""

    def __init__(self, kinds: list[str]) -> None:
        super().__init__(f"a probe with {kinds} is not played here")


async def watch(
    probe: Json, ask: Callable[[], Awaitable[bool]], report: Callable[[bool], Any]
) -> None:
    """Ask for ever; `report` hears each time that a threshold is reached, True or False."""
    values = {name: probe.get(name, default) for name, default in _DEFAULTS.items()}
    await asyncio.sleep(values["initialDelaySeconds"])
    n_same, last = 0, None
    while True:
        passed = await ask()
        n_same = n_same + 1 if passed == last else 1
        last = passed
        if n_same >= values["successThreshold" if passed else "failureThreshold"]:
            report(passed)
        await asyncio.sleep(values["periodSeconds"])
