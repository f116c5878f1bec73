"""Files over HTTPS for submitted work: from public addresses and the tenant's places alone, whatever names and redirects lead to."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.certificates import make_certificate
from tailorbird.data.readers import source_resolver
from tailorbird.domain.endpoint import AllowedPlace
from tailorbird.domain.errors import DataInvalid, Forbidden, TailorbirdError, Unavailable
from tailorbird.system import outward_access
from tailorbird.system.outward_access import SourceAccess, restrict_sources


class Site(ThreadingHTTPServer):
    """Answers by path; ``asked`` are the requests that came, with the header that a credential sends."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.redirects: dict[str, str] = {}
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("authorization")))
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("location", self.server.redirects[self.path])
            self.end_headers()
            return
        found = self.path.endswith(".csv")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"text,label\nhello,a\n" if found else b"")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site on the loopback, by HTTPS, whose certificate counts here."""
    tls = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    with Site() as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback stands for the public internet."""
    monkeypatch.setattr(outward_access, "is_public", lambda _: True)


def read(site: Site, path: str, folder: Path, *more: AllowedPlace, credentials: dict[str, Any] | None = None) -> bytes:
    root = f"https://127.0.0.1:{site.server_port}"
    places = (AllowedPlace(prefix=f"{root}/data", credential="site" if credentials else "none"), *more)
    with restrict_sources(SourceAccess("acme", places, credentials or {})):
        return source_resolver.fetch(f"{root}{path}", folder, folder=False).read_bytes()


def test_a_file_of_a_place_is_read_with_its_credential(site: Site, tmp_path: Path, public: None) -> None:
    assert read(site, "/data/rows.csv", tmp_path) == b"text,label\nhello,a\n"
    read(site, "/data/rows.csv", tmp_path, credentials={"site": {"headers": {"authorization": "Bearer theirs"}}})
    assert site.asked == [("/data/rows.csv", None), ("/data/rows.csv", "Bearer theirs")]
    with pytest.raises(DataInvalid):
        read(site, "/data/none", tmp_path)


def test_a_private_address_is_never_connected_to(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Forbidden) as refused:
        read(site, "/data/rows.csv", tmp_path)
    assert refused.value.error_code == "address_private"
    assert site.asked == []


def test_a_redirect_is_followed_within_the_places_and_nowhere_else(site: Site, tmp_path: Path, public: None) -> None:
    root = f"https://127.0.0.1:{site.server_port}"
    site.redirects = {
        "/data/moved": "/data/rows.csv",
        "/data/out": "/secret.csv",
        "/data/dots": "/data/../secret.csv",
        "/data/http": "http://169.254.169.254/latest/meta-data",
        "/data/file": "file:///etc/passwd",
        "/data/port": "https://127.0.0.1:1/data/rows.csv",
        "/data/loop": f"{root}/data/loop",
    }
    assert read(site, "/data/moved", tmp_path) == b"text,label\nhello,a\n"
    asked = len(site.asked)
    for path in ("/data/out", "/data/http", "/data/file", "/data/port", "/data/dots"):
        with pytest.raises(Forbidden):
            read(site, path, tmp_path)
        asked += 1
        assert len(site.asked) == asked, "the redirect itself was asked for, and nothing after it"
    with pytest.raises(Unavailable):
        read(site, "/data/loop", tmp_path)


def test_a_credential_does_not_go_along_to_another_place(site: Site, tmp_path: Path, public: None) -> None:
    root = f"https://127.0.0.1:{site.server_port}"
    site.redirects = {"/data/moved": "/open/rows.csv"}
    read(
        site, "/data/moved", tmp_path, AllowedPlace(prefix=f"{root}/open"), credentials={"site": {"headers": {"authorization": "Bearer x"}}}
    )
    assert site.asked == [("/data/moved", "Bearer x"), ("/open/rows.csv", None)]


def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer of the name server is a private address."""
    answers, connected = ["1.1.1.1", "127.0.0.1", "127.0.0.1"], list[str]()

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        connected.append(address[0])
        raise OSError("no network in this test")

    monkeypatch.setattr(outward_access.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with restrict_sources(SourceAccess("acme", (AllowedPlace(prefix="https://data.acme.example"),))), pytest.raises(TailorbirdError):
        source_resolver.fetch("https://data.acme.example/rows.csv", tmp_path, folder=False)
    assert connected == ["1.1.1.1"]


def test_proxies_and_logins_of_the_environment_are_not_used(
    site: Site, tmp_path: Path, public: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login worker password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    read(site, "/data/rows.csv", tmp_path)
    assert site.asked == [("/data/rows.csv", None)]
