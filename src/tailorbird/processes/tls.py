"""TLS of the public server: certificate and key, checked before anything starts."""

from __future__ import annotations

import ipaddress
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.system.files import EVERYBODY_ELSE


@dataclass(frozen=True)
class Tls:
    """A certificate (with the chain below it) and its private key, both in PEM."""

    cert: Path
    key: Path

    def check(self) -> None:
        """Raises InvalidInput when the two cannot be used together, Forbidden when others may read the key."""
        for path, what in ((self.cert, "certificate"), (self.key, "key")):
            if not path.is_file():
                raise InvalidInput(f"there is no {what} file {path}", f"name it with --tls-{what[:4].strip()}", code="tls_missing")
        mode = stat.S_IMODE(self.key.stat().st_mode)
        if mode & EVERYBODY_ELSE:
            raise Forbidden(
                f"the key file {self.key} is open to others (mode {mode:04o})", f"close it: chmod 600 {self.key}", code="key_readable"
            )
        try:
            # An encrypted key would be asked for on the terminal: an empty passphrase makes it an error.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InvalidInput(
                f"the certificate {self.cert} and the key {self.key} cannot be used together: {_reason(error)}",
                "give a certificate in PEM, and its own private key, without a passphrase",
                code="tls_invalid",
            ) from error

    def names(self) -> tuple[str, ...]:
        """The hosts that the certificate is for; one for any host of a domain names none."""
        certificate = x509.load_pem_x509_certificates(self.cert.read_bytes())[0]
        try:
            named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        hosts = named.get_values_for_type(x509.DNSName) + [str(address) for address in named.get_values_for_type(x509.IPAddress)]
        return tuple(host for host in hosts if "*" not in host)

    def stamp(self) -> tuple[int, int]:
        """Changes when one of the files is replaced."""
        return self.cert.stat().st_mtime_ns, self.key.stat().st_mtime_ns


def tls_of(cert: Path | None, key: Path | None) -> Tls | None:
    """Both, or nothing. Raises as ``Tls.check``, and InvalidInput when one is given without the other."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InvalidInput("a certificate needs its key, and a key its certificate", "give both: --tls-cert --tls-key", code="tls_half")
    found = Tls(cert, key)
    found.check()
    return found


def check_proxies(proxies: Sequence[str]) -> None:
    """Raises InvalidInput for what is neither an address nor a network."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise InvalidInput(
                f"trusted_proxies: {proxy} is neither an address nor a network",
                "write 10.0.0.5 or 10.0.0.0/24; headers of anybody else are not believed",
                code="proxies_invalid",
            ) from None


def is_open(host: str) -> bool:
    """True when others than this machine can reach a server on ``host``."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__
