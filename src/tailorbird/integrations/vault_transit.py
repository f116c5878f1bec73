"""Workspace key in HashiCorp Vault's transit engine, or another server of that protocol (OpenBao).

``POST /v1/MOUNT/encrypt/KEY {plaintext, associated_data}`` answers ``{data: {ciphertext: "vault:v1:…"}}``, and ``decrypt`` the
reverse; the key itself never leaves the server. Vault's own rotation (``vault write -f MOUNT/keys/KEY/rotate``) makes a new version;
earlier ones decrypt.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tailorbird.domain.errors import Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable

#: Seconds for a connection and for an answer.
_PATIENCE = 5.0
#: Characters of an answer at most.
_LARGEST = 1 << 16


class VaultTransit:
    """Implements ``KeyService``. ``url`` is that of the server, ``mount`` where the engine is mounted, ``key`` the key's name, ``ca`` a
    file with the certificate authority to trust; an answer may take ``patience`` seconds."""

    def __init__(self, url: str, mount: str, key: str, token: str, *, ca: str = "", patience: float = _PATIENCE) -> None:
        self._url, self._mount, self._key, self._patience = url.rstrip("/"), mount, key, patience
        # No proxy of the environment, and no redirect: the token goes to the server that was named, and nowhere else.
        verify = ssl.create_default_context(cafile=ca) if ca else True
        self._client = httpx.Client(timeout=patience, trust_env=False, follow_redirects=False, verify=verify)
        self._headers = {"x-vault-token": token, "x-vault-request": "true"}

    @property
    def name(self) -> str:
        """The server and the key."""
        return f"the key {self._key} of the key service at {self._url}"

    def wrap(self, key: bytes, context: str) -> str:
        """``vault:vN:…``, as the server gives it."""
        told = self._ask("encrypt", {"plaintext": _base64(key), "associated_data": _base64(context.encode())}).get("ciphertext")
        if not isinstance(told, str) or not told.startswith("vault:"):
            raise self._no_answer()
        return told

    def unwrap(self, wrapped: str, context: str) -> bytes:
        """The key. What comes is checked by whoever knows what the key is known by: a server may answer with another one."""
        if not wrapped.startswith("vault:"):
            raise Forbidden(
                "the tenants' keys were wrapped by another kind of key service",
                "set the setting encryption to what it was, or restore the settings of the workspace",
            )
        told = self._ask("decrypt", {"ciphertext": wrapped, "associated_data": _base64(context.encode())}).get("plaintext")
        try:
            return base64.b64decode(told, validate=True)  # type: ignore[arg-type]
        except (binascii.Error, TypeError, ValueError):
            raise self._no_answer() from None

    def _ask(self, what: str, body: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            with self._client.stream(
                "POST", f"{self._url}/v1/{self._mount}/{what}/{self._key}", json=body, headers=self._headers
            ) as answer:
                text, deadline = bytearray(), time.monotonic() + self._patience
                for part in answer.iter_bytes():
                    text += part
                    if len(text) > _LARGEST:
                        raise self._no_answer()
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the answer comes too slowly")
        except httpx.TransportError as error:
            raise Unavailable(
                f"{self.name} does not answer ({type(error).__name__})",
                "check that it runs, is unsealed and can be reached from here; what is encrypted cannot be read meanwhile",
                code="key_service_unreachable",
            ) from error
        if answer.status_code != 200:
            raise self._refused(answer.status_code)
        try:
            data = httpx.Response(200, content=bytes(text)).json()["data"]
        except (ValueError, KeyError, TypeError):
            raise self._no_answer() from None
        if not isinstance(data, dict):
            raise self._no_answer()
        return data

    def _refused(self, status: int) -> TailorbirdError:
        if status in (401, 403):
            hint = "give a token whose policy allows encrypt and decrypt with this key: key_service_token, or VAULT_TOKEN"
            return Forbidden(f"{self.name} refuses this token", hint)
        if status == 404:
            return NotFound(f"{self.name} is not there", "check its address, the mount and the key's name")
        if status == 400:
            hint = "it was wrapped by another key, or for another tenant: restore the record, or name the key that was used"
            return Corrupt(f"{self.name} cannot open a wrapped key", hint, code="data_key_corrupt")
        return Unavailable(f"{self.name} answers with status {status}", "look into its log", code="key_service_unreachable")

    def _no_answer(self) -> Corrupt:
        return Corrupt(
            f"{self.name} answers something that is no answer", "check that it speaks Vault's transit protocol", code="key_service_lies"
        )


def open_vault(address: str, token: str, ca: str = "") -> VaultTransit:
    """The key at ``https://HOST:PORT/MOUNT/KEY``; ``ca`` is a file with the certificate authority to trust. Raises InvalidInput."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL("")
    *mount, key = [part for part in url.path.split("/") if part] or [""]
    if url.scheme not in ("https", "http") or not url.host or not mount or not key:
        raise InvalidInput("the address of the key service is not one", "vault:https://HOST:8200/transit/KEY", code="settings_invalid")
    if not token:
        raise InvalidInput("the key service asks for a token", "set key_service_token, or VAULT_TOKEN", code="settings_invalid")
    server = f"{url.scheme}://{url.netloc.decode()}"
    try:
        return VaultTransit(server, "/".join(mount), key, token, ca=ca)
    except OSError as error:
        hint = "key_service_ca names a file of certificates in PEM"
        raise InvalidInput(
            f"the certificate authority of the key service cannot be read: {error.strerror}", hint, code="settings_invalid"
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
