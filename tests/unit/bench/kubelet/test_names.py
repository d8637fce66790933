"""The cluster's DNS answers, byte for byte through a resolver's own library."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from bench.kubelet.names import answer, resolver_file

KNOWN = {"engine.fleet.svc.cluster.local": ["198.18.7.100", "198.18.7.101"], "empty.local": []}


def ask(name: str, kind: str = "A") -> dns.message.Message:
    reply = answer(dns.message.make_query(name, kind).to_wire(), KNOWN.get)
    assert reply is not None
    return dns.message.from_wire(reply)


def test_all_addresses_of_a_name_are_told_whatever_its_case() -> None:
    reply = ask("Engine.fleet.svc.cluster.local.")

    (records,) = reply.answer
    assert sorted(record.to_text() for record in records) == KNOWN["engine.fleet.svc.cluster.local"]


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("absent.fleet.svc.cluster.local.", "A", dns.rcode.NXDOMAIN),
        # A name without IPv6 is not a name that does not exist: a resolver would ask no further.
        ("engine.fleet.svc.cluster.local.", "AAAA", dns.rcode.NOERROR),
        ("empty.local.", "A", dns.rcode.NOERROR),
    ],
)
def test_no_address_and_no_name_are_told_apart(name: str, kind: str, status: int) -> None:
    reply = ask(name, kind)

    assert (reply.rcode(), reply.answer) == (status, [])


def test_what_is_no_question_gets_no_answer() -> None:
    assert answer(b"\x00\x01nonsense", KNOWN.get) is None


def test_short_names_are_searched_in_the_pods_own_namespace_first() -> None:
    search = resolver_file("198.18.7.1", "fleet").splitlines()[0]

    assert search.split()[1] == "fleet.svc.cluster.local"
