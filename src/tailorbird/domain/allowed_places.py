"""Allowed places: where submitted work of a tenant may read, and with whose credentials.

An address is compared part by part, never letter by letter, and one that two readers could understand differently is none at all: the
prefix ``s3://acme`` covers neither ``s3://acme-other`` nor ``s3://acme/../other``.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from tailorbird.domain.value import Name, Value

#: The kinds of storage, by the protocols that lead to them.
KINDS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "hf": "hf", "https": "https"}

#: What a bucket, a container (with its account) or a host may look like.
_HOSTS = {
    "s3": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}"),
    "gs": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}"),
    "az": re.compile(r"[A-Za-z0-9$][A-Za-z0-9-]{0,62}(@[A-Za-z0-9][A-Za-z0-9.-]{0,254})?"),
    "https": re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?(:[0-9]{1,5})?"),
}
#: What no part of an address holds: separators of other notations, a query, control characters; ``::`` chains addresses in fsspec.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\?#\ud800-\udfff]|::")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
#: Where a revision or a configuration begins, in a name of the hub.
_HUB_SUFFIX = re.compile(r"[@:]")

#: Read without any credential, and read with those of the worker's environment.
ANONYMOUS, OF_WORKER = "none", "worker"


class Address(NamedTuple):
    """An address in the one form in which it is compared. ``host`` is empty for the hub, and where a whole kind of storage is meant."""

    kind: str
    host: str
    parts: tuple[str, ...]

    def covers(self, other: Address) -> bool:
        """True when ``other`` is this place or lies below it."""
        if self.kind != other.kind or (self.host and self.host != other.host):
            return False
        return other.parts[: len(self.parts)] == self.parts


def parse_address(text: str) -> Address:
    """Takes an address apart. Raises ValueError, with what is wrong, for one that is not plain."""
    protocol, separator, rest = text.partition("://")
    kind = KINDS.get(protocol.lower()) if separator else None
    if kind is None:
        raise ValueError(f"an address begins with one of: {', '.join(f'{protocol}://' for protocol in KINDS)}")
    if len(text) > 2000 or _FORBIDDEN.search(text):
        raise ValueError("an address is plain: no query, no fragment, no backslash, no control character, no chain of addresses")
    if kind == "hf":
        return Address(kind, "", _parts(_HUB_SUFFIX.split(rest, maxsplit=1)[0]))
    host, _, path = rest.partition("/")
    if host and not _HOSTS[kind].fullmatch(host):
        raise ValueError("an address names a bucket, a container or a host by its plain name, without user, password or escapes")
    if path and not host:
        raise ValueError("an address names a bucket, a container or a host")
    return Address(kind, _host(kind, host), _parts(path))


def _host(kind: str, host: str) -> str:
    """Hosts are compared without case and without the port that goes without saying."""
    if kind != "https":
        return host
    name, _, port = host.lower().partition(":")
    return name if port in ("", "443") else f"{name}:{int(port)}"


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path; a last slash says nothing. Raises ValueError for one that has a second spelling."""
    parts = path.removesuffix("/").split("/") if path.removesuffix("/") else []
    for part in parts:
        plain = unquote(part)
        # Some servers take off what stands behind a semicolon, and then read ".." (path parameters).
        is_step = plain.partition(";")[0].strip() in ("", ".", "..")
        if is_step or "/" in plain or _ESCAPE.search(plain) or _FORBIDDEN.search(plain):
            raise ValueError("an address has one spelling: no empty part, no . or .., none of them escaped")
    return tuple(parts)


def _is_prefix(text: str) -> str:
    parse_address(text)
    return text


class AllowedPlace(Value):
    """What lies below ``prefix`` (``s3://bucket/folder``, ``hf://owner``, ``https://host``; ``s3://`` is every bucket), and with what it is
    read: ``none`` (no credential at all), ``worker`` (what the worker's own environment holds), or a name among the setting
    ``credentials``."""

    prefix: Annotated[str, Field(min_length=5, max_length=1000), AfterValidator(_is_prefix)]
    credential: Name = ANONYMOUS


#: The places of one tenant.
Places = Annotated[tuple[AllowedPlace, ...], Field(max_length=200)]


def place_for(address: Address, places: tuple[AllowedPlace, ...]) -> AllowedPlace | None:
    """The place that covers ``address``: of several the narrowest, of two alike the first; None where none does."""
    covering = [place for place in places if parse_address(place.prefix).covers(address)]
    return max(covering, key=_width, default=None)


def _width(place: AllowedPlace) -> tuple[bool, int]:
    known = parse_address(place.prefix)
    return bool(known.host), len(known.parts)
