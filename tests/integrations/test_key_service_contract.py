"""What every key service must do: the twin, a file, an environment variable, and a server of Vault's transit protocol."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.doubles.key_service import MemoryKeyService
from support.transit_server import TOKEN, TransitServer, running_transit
from tailorbird.auth.identity_keys import new_key, open_key_file, open_key_variable, rotate_key_file, write_key_file
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.integrations.vault_transit import VaultTransit, open_vault
from tailorbird.ports.key_service import KeyService

KEY = bytes(range(32))


@pytest.fixture
def transit() -> Iterator[TransitServer]:
    with running_transit() as server:
        yield server


@pytest.fixture(params=["memory", "file", "environment", "vault"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[KeyService, Callable[[], None]]:
    """A service, and what rotates its key."""
    if request.param == "memory":
        memory = MemoryKeyService()
        return memory, memory.rotate
    if request.param == "file":
        write_key_file(tmp_path / "workspace.key")
        return open_key_file(tmp_path / "workspace.key"), lambda: rotate_key_file(tmp_path / "workspace.key")
    if request.param == "environment":
        monkeypatch.setenv("A_KEY", new_key())
        return open_key_variable("A_KEY"), lambda: None
    server = request.getfixturevalue("transit")
    return open_vault(server.url, TOKEN), server.rotate


def test_what_is_wrapped_comes_back_for_its_context_alone(opened: tuple[KeyService, Callable[[], None]]) -> None:
    service, _ = opened
    wrapped = service.wrap(KEY, "acme/1")
    assert KEY.hex() not in wrapped
    assert service.unwrap(wrapped, "acme/1") == KEY
    with pytest.raises(Corrupt) as refused:
        service.unwrap(wrapped, "globex/1")
    assert refused.value.error_code == "data_key_corrupt"


def test_earlier_versions_unwrap(opened: tuple[KeyService, Callable[[], None]]) -> None:
    service, rotate = opened
    before = service.wrap(KEY, "acme")
    rotate()
    assert service.unwrap(before, "acme") == KEY
    assert service.unwrap(service.wrap(KEY, "acme"), "acme") == KEY


def test_a_changed_wrapped_key_is_refused(opened: tuple[KeyService, Callable[[], None]]) -> None:
    service, _ = opened
    wrapped = service.wrap(KEY, "acme")
    place = len(wrapped) - 10
    for changed in (wrapped[:place] + ("A" if wrapped[place] != "A" else "B") + wrapped[place + 1 :], wrapped[:-8]):
        with pytest.raises(Corrupt):
            service.unwrap(changed, "acme")


def test_what_another_service_wrapped_is_refused(opened: tuple[KeyService, Callable[[], None]], tmp_path: Path) -> None:
    service, _ = opened
    write_key_file(tmp_path / "other.key")
    with pytest.raises(Forbidden) as refused:
        service.unwrap(open_key_file(tmp_path / "other.key").wrap(KEY, "acme"), "acme")
    assert refused.value.error_code == "forbidden"
    with pytest.raises(Forbidden):
        open_key_file(tmp_path / "other.key").unwrap("vault:v1:AAAA", "acme")


class TestFile:
    def test_it_is_for_its_owner_to_read_and_never_replaced(self, tmp_path: Path) -> None:
        place = tmp_path / "folder" / "workspace.key"
        write_key_file(place)
        assert stat.S_IMODE(place.stat().st_mode) == 0o400
        with pytest.raises(Conflict):
            write_key_file(place)
        before = place.read_text()
        rotate_key_file(place)
        assert place.read_text().endswith(before)
        assert len(place.read_text().split()) == 2
        assert stat.S_IMODE(place.stat().st_mode) == 0o400

    def test_a_file_that_is_missing_open_or_holds_no_keys_is_refused(self, tmp_path: Path) -> None:
        place = tmp_path / "workspace.key"
        for content, mode, code in (
            (None, 0, "workspace_key_missing"),
            (new_key(), 0o440, "forbidden"),
            ("", 0o400, "invalid_input"),
            ("not a key", 0o400, "invalid_input"),
            (f"{new_key()}\nshort\n", 0o400, "invalid_input"),
        ):
            if content is not None:
                place.unlink(missing_ok=True)
                place.write_text(content)
                place.chmod(mode)
            with pytest.raises((NotFound, Forbidden, InvalidInput)) as refused:
                open_key_file(place)
            assert refused.value.error_code == code
            assert content is None or not content or content not in str(refused.value.as_dict())

    def test_a_process_that_runs_notices_a_rotation(self, tmp_path: Path) -> None:
        place = tmp_path / "workspace.key"
        write_key_file(place)
        running = open_key_file(place)
        rotate_key_file(place)
        assert running.unwrap(open_key_file(place).wrap(KEY, "acme"), "acme") == KEY


class TestVault:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("slow", Unavailable),
            ("status 503", Unavailable),
            ("redirect", Unavailable),
            ("huge", Corrupt),
        ],
    )
    def test_a_server_that_fails_is_told_from_one_that_is_wrong(
        self, transit: TransitServer, fault: str, kind: type[TailorbirdError]
    ) -> None:
        server, _, _ = transit.url.rpartition("/transit/")
        service = VaultTransit(server, "transit", "workspace", TOKEN, patience=0.3)
        wrapped = service.wrap(KEY, "acme")
        transit.fault = fault
        for ask in (lambda: service.wrap(KEY, "acme"), lambda: service.unwrap(wrapped, "acme")):
            with pytest.raises(kind) as refused:
                ask()
            assert TOKEN not in str(refused.value.as_dict())

    def test_a_wrong_token_and_a_key_that_is_not_there_are_told(self, transit: TransitServer) -> None:
        with pytest.raises(Forbidden) as refused:
            open_vault(transit.url, "another").wrap(KEY, "acme")
        assert refused.value.error_code == "forbidden"
        with pytest.raises(NotFound):
            open_vault(transit.url.replace("workspace", "other"), TOKEN).wrap(KEY, "acme")

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "http://",
            "http://host/onlykey",
        ],
    )
    def test_what_is_no_address_is_refused(self, address: str) -> None:
        with pytest.raises(InvalidInput):
            open_vault(address, TOKEN)
