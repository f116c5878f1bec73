"""HTTPS with a certificate of one's own, renewed without a restart; headers of proxies that are trusted, and of nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from support.certificates import make_certificate, trusting
from support.processes import in_thread
from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.processes.gateway import own_origins
from tailorbird.processes.http_servers import tls_of


def seen() -> FastAPI:
    """Tells how it was called."""
    app = FastAPI()

    @app.get("/seen")
    async def look(request: Request) -> dict[str, Any]:
        return {"scheme": request.url.scheme, "client": request.client.host if request.client else None}

    return app


def test_https_is_verified_by_the_client(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    tls.check()
    with in_thread(seen, tls) as (url, _):
        told = httpx.get(f"{url}/seen", verify=trusting(tls), trust_env=False).json()
        assert told == {"scheme": "https", "client": "127.0.0.1"}
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/seen", trust_env=False)


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    before = trusting(tls)
    with in_thread(seen, tls) as (url, server):
        httpx.get(f"{url}/seen", verify=before, trust_env=False)
        assert not server.renew_certificate()
        make_certificate(tmp_path)
        assert server.renew_certificate()
        assert httpx.get(f"{url}/seen", verify=trusting(tls), trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/seen", verify=before, trust_env=False)
        tls.key.write_bytes(b"half of a key")
        with pytest.raises(InvalidInput):
            server.renew_certificate()
        make_certificate(tmp_path)
        assert server.renew_certificate()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    tls.key.chmod(0o640)
    with pytest.raises(Forbidden) as open_key:
        tls_of(tls.cert, tls.key)
    assert open_key.value.error_code == "forbidden"
    assert "chmod 600" in open_key.value.hint


def test_forwarded_headers_are_believed_of_trusted_proxies_alone() -> None:
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}
    for proxies, expected in (
        ((), {"scheme": "http", "client": "127.0.0.1"}),
        (("10.0.0.0/8",), {"scheme": "http", "client": "127.0.0.1"}),
        (("127.0.0.0/8",), {"scheme": "https", "client": "203.0.113.9"}),
    ):
        with in_thread(seen, proxies=proxies) as (url, _):
            assert httpx.get(f"{url}/seen", headers=forwarded, trust_env=False).json() == expected


@pytest.mark.parametrize(
    ("host", "public", "origins"),
    [
        ("127.0.0.1", (), {"http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"}),
        ("::", (), {"http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"}),
        ("10.0.0.5", (), {"http://10.0.0.5:8080"}),
        ("10.0.0.5", ("https://Tailorbird.Example:443/",), {"http://10.0.0.5:8080", "https://tailorbird.example"}),
    ],
)
def test_a_server_is_known_where_it_listens_and_by_what_the_settings_say(host: str, public: tuple[str, ...], origins: set[str]) -> None:
    assert own_origins(host, 8080, None, public) == origins
