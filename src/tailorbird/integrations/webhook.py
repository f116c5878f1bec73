"""Webhook notifier: JSON by HTTP POST, signed where a secret is shared."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import closing

import httpx

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ports.tracker import Notifier
from tailorbird.system.outward_access import is_this_machine, usable_environment

#: Header with the signature, ``t=<unix seconds>,v1=<hex>``: HMAC-SHA256 of ``<t>.<body>`` under the shared secret.
SIGNATURE_HEADER = "x-tailorbird-signature"
#: Header that is the same for every try of one message, so that a receiver can drop repeats.
DELIVERY_HEADER = "x-tailorbird-delivery"

_TRIES = 3
#: Answers after which another try may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def open_notifier(url: str, secret: str = "") -> Notifier:
    """A notifier for ``url``. Nothing is sent until the first message. Raises InvalidInput unless ``url`` is http or https with a host."""
    return WebhookNotifier(url, secret)


class WebhookNotifier:
    """Implements ``Notifier``. A try waits ``timeout`` seconds for an answer; ``pause`` seconds lie before the second try, twice as many
    before the third.

    Redirects are not followed: they would carry the message to a place that the operator did not choose. The proxy that the environment
    names for the URL is used, but not to reach this machine itself.
    """

    def __init__(self, url: str, secret: str = "", timeout: float = 5.0, pause: float = 0.5) -> None:
        self._url = _checked(url)
        self._secret = secret.encode()
        self._pause = pause
        self._limits = {"timeout": httpx.Timeout(timeout).as_dict()}

    def send(self, message: Mapping[str, object]) -> None:
        """Delivers ``message`` as JSON. Any 2xx is a receipt.

        Raises Unavailable after three tries, or at once when the receiver refuses for good (a redirect, most of 4xx); InvalidInput when the
        message is not JSON.
        """
        body, delivery = _body(message), str(uuid.uuid4())
        for tried in range(_TRIES):
            if tried:
                time.sleep(self._pause * 2 ** (tried - 1))
            status = self._post(body, delivery)
            if status is not None and 200 <= status < 300:
                return
            if status is not None and status not in _PASSING:
                raise self._undelivered(f"the receiver answered {status}", "correct the webhook's URL or secret")
        told = "no answer came in time" if status is None else f"the receiver answered {status}"
        raise self._undelivered(f"{told}, {_TRIES} times", "look whether the receiver is up; the readings themselves are kept")

    def _post(self, body: bytes, delivery: str) -> int | None:
        """The status of one try; None when there was none. The answer's body is not read. Raises Unavailable (an unusable proxy)."""
        request = httpx.Request("POST", self._url, content=body, headers=self._headers(body, delivery), extensions=self._limits)
        try:
            # The transport alone: the client around it would log the URL and take credentials from the environment.
            with usable_environment():
                opened = httpx.HTTPTransport(proxy=_proxy(self._url))
            with opened as transport, closing(transport.handle_request(request)) as response:
                return int(response.status_code)
        except httpx.TransportError:
            return None

    def _headers(self, body: bytes, delivery: str) -> dict[str, str]:
        headers = {"content-type": "application/json", "user-agent": "tailorbird", DELIVERY_HEADER: delivery}
        if self._secret:
            now = str(int(time.time()))
            signature = hmac.new(self._secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers[SIGNATURE_HEADER] = f"t={now},v1={signature}"
        return headers

    def _undelivered(self, what: str, hint: str) -> Unavailable:
        return Unavailable(f"the webhook at {self._url.host} was not told: {what}", hint, code="webhook_undelivered")


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise InvalidInput(
            "the webhook's address is no http or https URL, or names a user",
            "give a URL such as https://example.com/hook; a shared secret goes into the setting for it",
        )
    return parsed


def _proxy(url: httpx.URL) -> str | None:
    if is_this_machine(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    named = urllib.request.getproxies().get(url.scheme)
    return named if not named or "://" in named else f"http://{named}"


def _body(message: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(dict(message), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput("the message is not JSON", "give strings, numbers, lists and dictionaries") from error
