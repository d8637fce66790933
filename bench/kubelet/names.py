"""The cluster's DNS: address records of services, over UDP, as a cluster's server gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

ZONE = "cluster.local"
_TTL_SECONDS = 5
"""CoreDNS's own value for services."""

Addresses = Callable[[str], Sequence[str] | None]
"""A full name in lower case without the last dot -> its addresses; None: there is no such name."""


def resolver_file(server: str, namespace: str) -> str:
    """The /etc/resolv.conf of a pod with `dnsPolicy: ClusterFirst`."""
    search = f"{namespace}.svc.{ZONE} svc.{ZONE} {ZONE}"
    return f"search {search}\nnameserver {server}\noptions ndots:5\n"


def answer(query: bytes, addresses: Addresses) -> bytes | None:
    """The reply to one datagram; None for what is not a question."""
    try:
        asked = dns.message.from_wire(query)
    except dns.exception.DNSException:
        return None
    if asked.flags & dns.flags.QR or len(asked.question) != 1:
        return None
    (question,) = asked.question
    reply = dns.message.make_response(asked, recursion_available=True)
    reply.flags |= dns.flags.AA
    found = addresses(str(question.name).rstrip(".").lower())
    if found is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A and found:
        records = dns.rrset.from_text(question.name, _TTL_SECONDS, "IN", "A", *found)
        reply.answer.append(records)
    return reply.to_wire()


class _Server(asyncio.DatagramProtocol):
    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data, self._addresses)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


async def serve_names(host: str, addresses: Addresses) -> asyncio.DatagramTransport:
    """Answer on port 53 of an address; the transport's `close` ends it."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Server(addresses), local_addr=(host, 53)
    )
    return transport
