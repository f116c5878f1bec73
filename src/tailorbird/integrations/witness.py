"""Witness of the log over HTTP, by the protocol of c2sp.org/tlog-witness."""

from __future__ import annotations

import httpx

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ports.witness import Witness, WitnessAnswer
from tailorbird.system.outward_client import outward_client

_SIZE = "text/x.tlog.size"
#: No answer that is one is longer.
_LONGEST = 65_536


def open_witness(key: str, url: str) -> Witness:
    """The witness with the verifier key ``key`` and the submission prefix ``url``. Raises InvalidInput."""
    return HttpWitness(key, url)


class HttpWitness:
    """Implements ``Witness``. Redirects are not followed."""

    def __init__(self, key: str, url: str, timeout: float = 10.0) -> None:
        try:
            parsed = httpx.URL(url.rstrip("/") + "/add-checkpoint")
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
            raise InvalidInput(
                "the witness's address is no http or https URL, or names a user", "give its submission prefix", code="witness_url"
            )
        self.key = key
        self._url = parsed
        self._timeout = timeout

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Asks for a cosignature. Raises Unavailable."""
        try:
            with (
                outward_client(str(self._url), timeout=self._timeout, follow_redirects=False) as client,
                client.stream("POST", self._url, content=body) as response,
            ):
                text = _text(response)
                told = response.headers.get("content-type", "").partition(";")[0].strip() == _SIZE
        except httpx.HTTPError:
            raise Unavailable(
                f"the witness at {self._url.host} does not answer", "look whether it is up", code="witness_unreachable"
            ) from None
        size = int(text) if told and response.status_code == httpx.codes.CONFLICT and text.strip().isdecimal() else None
        return WitnessAnswer(response.status_code, text, size)


def _text(response: httpx.Response) -> str:
    """The answer's text. Raises Unavailable for one that has no end."""
    found = b""
    for piece in response.iter_bytes():
        found += piece
        if len(found) > _LONGEST:
            raise Unavailable("the witness's answer is too long to be one", "check the witness's address", code="witness_unreachable")
    return found.decode(errors="replace")
