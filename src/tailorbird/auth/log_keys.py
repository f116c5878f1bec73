"""Keys that a log had, one after another: each change is signed by the key before and by the one after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tailorbird.auth.identity_keys import PrivateKey, public_key
from tailorbird.auth.signing import sign, signed_bytes
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.ed25519 import is_signed
from tailorbird.domain.event import LogEntry

#: The event of a change, and who signs it in the name of the log.
ROTATED, _PURPOSE, _NAME = "log.key_rotated", "log-key", "log"


@dataclass(frozen=True)
class LogKey:
    """A public key (base64) of the log, and the size up to which it signs: None for the present one."""

    public: str
    until: int | None


def rotation_facts(former: PrivateKey, key: PrivateKey, at: datetime) -> dict[str, str | int | float | bool | None]:
    """What the event of a change says: both keys, and the signature of each over the change."""
    change = {"former": public_key(former), "public": public_key(key)}
    signatures = {
        "signed_by_former": sign(former, _NAME, _PURPOSE, digest_of({**change}), at).signature,
        "signed_by_new": sign(key, _NAME, _PURPOSE, digest_of({**change}), at).signature,
    }
    return {**change, **signatures}


def keys_of_log(present: str, entries: Iterable[LogEntry]) -> tuple[LogKey, ...]:
    """The present key and those of before, newest first, as far as signed changes among ``entries`` lead back from it."""
    keys = [LogKey(present, None)]
    for entry in sorted(entries, key=lambda entry: -entry.index):
        data = entry.event.data
        former, public = str(data.get("former", "")), str(data.get("public", ""))
        if entry.event.kind != ROTATED or public != keys[-1].public:
            continue
        message = signed_bytes(_PURPOSE, digest_of({"former": former, "public": public}))
        if is_signed(message, str(data.get("signed_by_former")), former) and is_signed(message, str(data.get("signed_by_new")), public):
            keys.append(LogKey(former, entry.index))
    return tuple(keys)
