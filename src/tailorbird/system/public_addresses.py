"""Public network addresses: which belong to the internet, and a host name resolved to one of them, once (against DNS rebinding)."""

from __future__ import annotations

import ipaddress
import socket

from tailorbird.domain.errors import Forbidden

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


#: Public by their number, and yet services of the machine's own cloud: Azure's agent of virtual machines.
_OF_THE_CLOUD = frozenset({ipaddress.ip_address("168.63.129.16")})


#: Special purposes that older versions of Python take for public (the registries of RFC 6890; deprecated site-local addresses).
_SPECIAL = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)


#: Where IPv6 addresses of the internet are given out.
_UNICAST = ipaddress.ip_network("2000::/3")


#: IPv6 that stands for the IPv4 address in its last four bytes.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """True for an address of the public internet: not private, loopback, link-local, multicast, reserved, nor a metadata service; in
    whichever notation an IPv4 address stands inside an IPv6 one; tunnels (6to4, Teredo) lead anywhere, and are not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(map(_is_public, _meant(ip)))


def _is_public(ip: _IP) -> bool:
    if ip in _NAT64:
        return True  # it says nothing itself: what it carries is judged
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST:
        return False
    special = ip.is_multicast or ip.is_reserved or ip.is_private or any(ip in network for network in _SPECIAL)
    return ip.is_global and not special and ip not in _OF_THE_CLOUD


def _meant(ip: _IP) -> list[_IP]:
    """The address, and the IPv4 address that it carries; of one that is only mapped, what is mapped."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    return [ip, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)] if ip in _NAT64 else [ip]


def _addresses(host: str, port: int) -> list[str]:
    """What a name leads to. Raises OSError, for what cannot be a name as well."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:
        raise OSError("no such name") from error


def public_address_of(host: str, port: int) -> str:
    """The address to connect to for ``host``: every one that its name leads to is public. Raises Forbidden, OSError (no such name)."""
    found = _addresses(host, port)
    if not found or not all(map(is_public, found)):
        raise Forbidden(
            f"{host} leads to an address that is not of the public internet",
            "upload the data, or give a storage (s3://, gs://, az://) whose credential the admin sets",
            code="address_private",
        )
    return found[0]


#: Metadata services at addresses that are private by their number: of Amazon, Google and Oracle.
_LOCAL_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe")))


def is_local(address: str) -> bool:
    """True for an address of this machine or of a private network; not for link-local ones, where clouds tell machines their secrets."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return True
    never = ip.is_link_local or ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip in _LOCAL_METADATA
    return ip.is_private and not never and not any(ip in network for network in _SPECIAL)


def endpoint_address_of(host: str, port: int, *, private: bool) -> str:
    """The address to connect to for the ``host`` of an endpoint: every one that its name leads to is public or, where it is ``private``,
    of the local network. Raises Forbidden, OSError (no such name)."""
    found = _addresses(host, port)
    if not found or not all(is_public(each) or (private and is_local(each)) for each in found):
        raise Forbidden(
            f"{host} leads to an address that this endpoint may not have",
            "give the address of a public server; one on your own network is registered with --private, and link-local ones never are",
            code="address_private",
        )
    return found[0]
