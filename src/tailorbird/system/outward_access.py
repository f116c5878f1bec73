"""Public network addresses: which belong to the internet, and a host name resolved to one of them, once (against DNS rebinding)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailorbird.domain.endpoint import ANONYMOUS, OF_WORKER, AllowedPlace, parse_address, place_for
from tailorbird.domain.errors import Forbidden, Unavailable

if TYPE_CHECKING:
    import ssl

    import httpx


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


def outward_client(url: str, verify: ssl.SSLContext | None = None, **options: Any) -> httpx.Client:
    """A client for ``url``, which trusts ``verify``, else whom this machine trusts. Raises Unavailable: a proxy or certificates that the
    environment names cannot be used; InvalidURL."""
    import httpx

    direct = is_this_machine(httpx.URL(url).host)
    with usable_environment():
        return httpx.Client(verify=verify or httpx.create_ssl_context(), trust_env=not direct, **options)


def is_this_machine(host: str) -> bool:
    """True for a name or an address that no other machine has."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def usable_environment() -> Iterator[None]:
    """Raises Unavailable for what a client cannot be made of: a SOCKS proxy, where nothing speaks to one; a proxy that is no URL; a missing
    file of certificates."""
    import httpx

    try:
        yield
    except ImportError as error:
        raise _no_proxy("it is a SOCKS proxy", "pip install 'httpx[socks]', or name the host in NO_PROXY") from error
    except (ValueError, httpx.InvalidURL) as error:
        raise _no_proxy("it is no http or https address", "write it as http://HOST:PORT, or name the host in NO_PROXY") from error
    except OSError as error:
        raise Unavailable(
            f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {error.strerror or type(error).__name__}",
            "correct the variable, or unset it",
            code="certificates_unreadable",
        ) from error


def _no_proxy(why: str, hint: str) -> Unavailable:
    return Unavailable(f"the proxy that ALL_PROXY, HTTP_PROXY or HTTPS_PROXY names cannot be used: {why}", hint, code="proxy_unusable")


#: Options for a storage's client, by the name of a credential.
Credentials = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class SourceAccess:
    """The places of ``tenant``, and the credentials that places may name."""

    tenant: str
    places: tuple[AllowedPlace, ...]
    credentials: Credentials = field(default_factory=dict)


@dataclass(frozen=True)
class AccessGrant:
    """Permission to read at an address, with the credential that is used and its ``options`` from the settings."""

    credential: str
    options: Mapping[str, Any]


_reach: ContextVar[SourceAccess | None] = ContextVar("tailorbird_reach", default=None)


@contextmanager
def restrict_sources(reach: SourceAccess | None) -> Iterator[None]:
    """Restricts the addresses that may be read until the block ends; None: unrestricted, as on one's own machine."""
    token = _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(token)


def is_bounded() -> bool:
    """True while submitted work runs."""
    return _reach.get() is not None


def grant_for(name: str) -> AccessGrant | None:
    """Permission to read at the address ``name``; None where nothing is bounded. Raises Forbidden as ``grant_within``."""
    reach = _reach.get()
    return None if reach is None else grant_within(reach, name)


def grant_within(reach: SourceAccess, name: str) -> AccessGrant:
    """Permission to read at ``name`` within ``reach``. Raises Forbidden (no place of the tenant covers it, or it is no plain address),
    Unavailable (the credential is not known here)."""
    try:
        address = parse_address(name)
    except ValueError as error:
        raise Forbidden(f"{name[:200]!r} is not read for submitted work: {error}", "write a plain address") from None
    place = place_for(address, reach.places)
    if place is None:
        raise Forbidden(
            f"the tenant {reach.tenant} may not read at {name[:200]}",
            f"upload the data, or ask an admin of the host: tailorbird tenant places {reach.tenant} --allow PREFIX (see tenant list)",
        )
    if place.credential in (ANONYMOUS, OF_WORKER):
        return AccessGrant(place.credential, {})
    if place.credential not in reach.credentials:
        raise Unavailable(
            f"the credential {place.credential}, with which {place.prefix} is read, is not among this machine's settings",
            f"add it to settings.yaml of the worker: credentials: {{{place.credential}: {{...}}}}",
            code="credential_missing",
        )
    return AccessGrant(place.credential, reach.credentials[place.credential])
