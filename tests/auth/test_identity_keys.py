"""Key files: made once, readable by their owner alone, and refused in every other shape."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tailorbird.auth import check_key, create_key, load_key, public_key
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, NotFound, Unauthenticated
from tailorbird.domain.identity import Identity, Role

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _person(public: str) -> Identity:
    return Identity(tenant="acme", name="ada", roles=frozenset({Role.AUTHOR}), public_key=public, created_at=NOW)


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "acme" / "ada.key"
    public = create_key(path)
    assert _mode(path) == 0o600
    assert _mode(path.parent) == _mode(path.parent.parent) == 0o700
    assert len(base64.b64decode(public, validate=True)) == 32
    assert public_key(load_key(path)) == public


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ada.key"
    public = create_key(path)
    with pytest.raises(Conflict) as caught:
        create_key(path)
    assert caught.value.error_code == "conflict"
    assert public_key(load_key(path)) == public


@pytest.mark.parametrize(
    "mode",
    [
        0o640,
        0o604,
    ],
)
def test_a_key_that_others_can_read_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ada.key"
    create_key(path)
    path.chmod(mode)
    with pytest.raises(Forbidden) as caught:
        load_key(path)
    assert caught.value.error_code == "forbidden"
    assert f"chmod 600 {path}" in caught.value.hint


@pytest.mark.parametrize("name", ["nobody.key", "."])
def test_a_key_that_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound) as caught:
        load_key(tmp_path / name)
    assert caught.value.error_code == "key_missing"


def test_a_passphrase_is_asked_for_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "ada.key"
    public = create_key(path, passphrase="needle and thread")
    assert public_key(load_key(path, "needle and thread")) == public
    for wrong in (None, "thimble"):
        with pytest.raises(Unauthenticated) as caught:
            load_key(path, wrong)
        assert caught.value.error_code == "unauthenticated"


def test_bytes_that_are_no_ed25519_key_are_corrupt(tmp_path: Path) -> None:
    curve = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"not a key", curve):
        path = tmp_path / f"{len(data)}.key"
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(Corrupt) as caught:
            load_key(path)
        assert caught.value.error_code == "corrupt"


def test_somebody_elses_key_does_not_make_one_ada(tmp_path: Path) -> None:
    ada = _person(create_key(tmp_path / "ada.key"))
    create_key(tmp_path / "eve.key")
    check_key(load_key(tmp_path / "ada.key"), ada)
    with pytest.raises(Forbidden) as caught:
        check_key(load_key(tmp_path / "eve.key"), ada)
    assert caught.value.error_code == "forbidden"
