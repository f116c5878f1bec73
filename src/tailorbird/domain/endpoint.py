"""Places outside the house: endpoints (servers of OpenAI's protocol) and what they cost, and addresses where submitted work may read."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from tailorbird.domain.value import Name, Value


def _is_address(url: str) -> str:
    """An address without user, query and fragment, so that it may stand in records and reports; without ``/v1``."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an endpoint's address is http:// or https:// with a host, and neither a user, nor a query, nor a fragment")
    return url.rstrip("/").removesuffix("/v1")


def is_plain_address(url: str) -> bool:
    """True where an address can be read in one way only: printable ASCII, a host of letters, digits and marks of numbers, a port that is
    one, and a path without escapes and steps back."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = "[" + (parts.hostname or "") + "]" if ":" in (parts.hostname or "") else parts.hostname or ""
    written = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"
    plain = re.fullmatch(r"[a-z0-9.\-]+|\[[0-9a-f:.]+\]", host) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", parts.path)
    return (
        bool(plain) and written.lower() == url.lower() and not {".", ".."} & set(parts.path.split("/")) and ".." not in host and port != 0
    )


def server_of(url: str) -> str:
    """The server behind an address, in one spelling: its host, and its port where that is none of the web's. The way to it (scheme, path)
    is no part of who it is. Empty for what is no address."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return ""
    with suppress(UnicodeError):
        host = host.encode("idna").decode("ascii").lower()
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        host = str(getattr(address, "ipv4_mapped", None) or address)
    with suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001
    return host if port in (None, 80, 443) else f"{host}:{port}"


#: What may stand behind a model's name in that of a version of it.
_VERSION_MARKS = ("-", "@", ":", "_")


def is_version_of(reported: str, model: str) -> bool:
    """True where a server names ``model``, or a version of it."""
    return reported == model or any(reported.startswith(model + mark) for mark in _VERSION_MARKS)


def is_same_model(one: str, other: str) -> bool:
    """True where two names are of one model, as far as names tell: alike but for case and who resells it (``openai/gpt-4o``), or one a
    version of the other."""
    one, other = (name.casefold().rpartition("/")[2] for name in (one, other))
    return bool(one and other) and (is_version_of(one, other) or is_version_of(other, one))


#: What 1,000,000 tokens cost.
Price = Annotated[float, Field(ge=0, le=1e6)]


class Endpoint(Value):
    """A server of OpenAI's protocol that one tenant may use.

    ``key`` names one of the setting ``endpoint_keys`` (empty: it asks for none). ``input_price`` and ``output_price`` are of 1,000,000
    tokens, in ``currency``. ``region`` says where the data go and who gets them, for people. A request takes ``timeout_s`` seconds at
    most. ``private``: its name may lead to an address of the local network or of this machine, and it may be asked without TLS.
    """

    name: Name
    url: Annotated[str, Field(min_length=10, max_length=500), AfterValidator(_is_address)]
    key: Name | None = None
    input_price: Price = 0.0
    output_price: Price = 0.0
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    region: Annotated[str, Field(min_length=3, max_length=300)]
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    private: bool = False

    @model_validator(mode="after")
    def _encrypted(self) -> Endpoint:
        if self.url.startswith("http://") and not self.private:
            raise ValueError("an endpoint on the internet is asked over https://")
        return self

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost, in ``currency``."""
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6


#: The endpoints of one tenant; no two share a name.
Endpoints = Annotated[tuple[Endpoint, ...], Field(max_length=50)]


class HostedModel(Value):
    """The model behind a hosted candidate: the endpoint by name and address, the ``model`` that is asked for, and how the server named the
    one that answered (``reported``)."""

    endpoint: Name
    url: str
    model: str
    reported: str


#: Fingerprints of a server that are listed: it may name another with each answer.
MOST_FINGERPRINTS = 16


class HostedUse(Value):
    """What measuring a hosted candidate found of its server: requests answered, how many of them it ``refused``, how many tries were made
    ``again`` (a rate limit, a fault of the server), tokens, and the model's own account of itself: the names and ``fingerprints`` that came
    with answers (empty where the server gives none), sorted; ``more_fingerprints`` came beside those that are listed.

    ``money`` is what the tokens cost with those that were ``lost``: read and written by tries that gave no whole answer, and may have to be
    paid. Of so many answers the tokens are ``estimated``: bytes, in place of what the server did not tell."""

    endpoint: Name
    model: str
    requests: int
    refused: int
    again: int
    prompt_tokens: int
    completion_tokens: int
    money: float
    currency: str
    reported: tuple[str, ...]
    fingerprints: tuple[str, ...]
    more_fingerprints: int = 0
    lost: int = 0
    estimated: int = 0

    def named_fingerprints(self, shown: Callable[[str], str] = str) -> str:
        """The fingerprints as a sentence names them, each as it is ``shown``: those listed, and how many more there were."""
        more = f" and {self.more_fingerprints:,} more" if self.more_fingerprints else ""
        return ", ".join(map(shown, self.fingerprints)) + more


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
