"""HTTP clients for the outside world: by the proxies that the environment names, which are no way to this machine itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tailorbird.domain.errors import Unavailable

if TYPE_CHECKING:
    import ssl

    import httpx


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
