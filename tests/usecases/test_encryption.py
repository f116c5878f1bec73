"""A workspace that encrypts: nothing of a tenant lies in the clear, each tenant's key is its own, and goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import support.ledger_samples as sample
from support.doubles.key_service import MemoryKeyService
from support.usecases import everything, on_both_databases, write_objective
from tailorbird import auth
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, Unavailable
from tailorbird.domain.feedback import KeptWords
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Digest
from tailorbird.ledger import Ledger, open_artifacts
from tailorbird.ports.engine import LoadRequest
from tailorbird.ports.key_service import KeyService
from tailorbird.usecases import Actor, Dependencies, Progress, admit, tenants
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise, key_path
from tailorbird.usecases.maintenance.encryption import demand_nothing_stored, rewrap_keys
from tailorbird.usecases.runs import submit
from tailorbird.usecases.storage_quota import keep_upload, storing
from tailorbird.usecases.tenant_keys import TenantKeys

WORDS = b"text,label,who\nthe mill has lost both of its keys,refund,Ada Lovelace\n"
NOTHING = Progress()


def encrypting(deps: Dependencies, service: Callable[[], KeyService] | None) -> Dependencies:
    """The workspace of ``deps`` as another process opens it, with a key service or none."""
    keys = TenantKeys(deps.ledger, deps.clock, service)
    artifacts = open_artifacts(str(deps.workspace / "artifacts"), deps.workspace / "cache")
    clear = deps.workspace.with_name(f"{deps.workspace.name}-clear")
    return replace(
        deps,
        ledger=deps.ledger.keeping(keys.of_words if keys.encrypts else None),
        artifacts=artifacts,
        keys=keys,
        sealed=lambda key: artifacts.sealed_by(key, clear / key.scope),
        sealed_files=artifacts.sealed_files,
        clear=lambda: clear,
        host="acme",
    )


def unsealed(deps: Dependencies) -> Ledger:
    """The ledger as it holds the words."""
    return deps.ledger.keeping(None)


@pytest.fixture
def service() -> MemoryKeyService:
    return MemoryKeyService()


@pytest.fixture
def encrypted(deps: Dependencies, service: MemoryKeyService) -> Dependencies:
    return encrypting(deps, lambda: service)


@pytest.fixture
def admin(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "admin")


def upload(deps: Dependencies, actor: Actor, data: bytes = WORDS) -> Digest:
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        return keep_upload(deps, actor, Path(folder)).digest


def in_the_clear(deps: Dependencies, data: bytes = WORDS) -> list[Path]:
    return [path for path in deps.workspace.rglob("*") if path.is_file() and data in path.read_bytes()]


def files(deps: Dependencies) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (deps.workspace / "artifacts" / "sealed").rglob("*") if path.is_file()}


def globex(deps: Dependencies) -> Actor:
    initialise(deps, "globex", FIRST_PEOPLE)
    return act_as(deps, "globex", "author")


def test_the_story_ends_as_ever_and_no_row_lies_in_the_clear(encrypted: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job")
    ended = submit.adapt(encrypted, author, path, NOTHING)
    assert ended.run.state is not RunState.FAILED
    release = str(ended.conclusion.release)
    words = (path.parent / "rows.csv").read_text().splitlines()[5].split(",")[0].encode()
    assert in_the_clear(encrypted, words) == []
    assert set(encrypted.artifacts.digests()) == set(), "a model that is no catalogue's is encrypted, too"
    servable = admit(encrypted, LoadRequest(tenant="acme", release=release, purpose="staging"))
    assert Path(servable.base).is_relative_to(encrypted.workspace.with_name(f"{encrypted.workspace.name}-clear"))


def test_each_tenant_has_a_key_and_files_of_its_own(encrypted: Dependencies, author: Actor) -> None:
    theirs = globex(encrypted)
    digest = upload(encrypted, author)
    assert upload(encrypted, theirs) == digest == digest_bytes(WORDS)
    assert len(files(encrypted)) == 4, "the file and the folder that it came in, twice"
    assert in_the_clear(encrypted) == []
    keys = {encrypted.keys.of(name) for name in ("acme", "globex")}  # type: ignore[union-attr]
    assert len({key.scope for key in keys if key}) == 2
    only = upload(encrypted, theirs, b"what they alone have")
    with pytest.raises(NotFound):
        encrypted.for_tenant("acme").artifacts.get(only)
    with pytest.raises(Forbidden):
        encrypted.for_tenant("acme").for_tenant("globex")


def test_an_erasure_destroys_the_tenants_own_and_leaves_anothers(encrypted: Dependencies, author: Actor, admin: Actor) -> None:
    theirs = globex(encrypted)
    digest = upload(encrypted, author)
    upload(encrypted, theirs)
    certificate = erase.erase(encrypted, admin, "Ada Lovelace").certificate
    assert certificate.uploads == (digest,)
    assert not encrypted.for_tenant("acme").artifacts.exists(digest)
    assert encrypted.for_tenant("globex").artifacts.get(digest) == WORDS


def test_a_tenant_that_is_removed_takes_its_key_along(
    encrypted: Dependencies, admin: Actor, tmp_path: Path, service: MemoryKeyService
) -> None:
    public = auth.create_key(key_path(encrypted, "globex", "admin"))
    newcomer = tenants.Newcomer(name="admin", roles=frozenset(auth.ROLES_FOR[auth.Action.ERASE_DATA]), public_key=public)
    tenants.add_tenant(encrypted, admin, "globex", (newcomer,))
    theirs = act_as(encrypted, "globex", "admin")
    with storing(encrypted.for_tenant("globex"), "globex") as (store, _):
        digest = store.put(WORDS)
    left = files(encrypted)
    removed = tenants.remove_tenant(encrypted, admin, "globex")
    assert removed.artifacts == 1
    assert files(encrypted) == {}
    for path, data in left.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)  # somebody had kept a copy of the disk
    tenants.add_tenant(encrypted, admin, "globex", (newcomer,))
    again = encrypting(encrypted, lambda: service).for_tenant("globex")
    assert not again.artifacts.exists(digest)
    assert theirs.tenant == "globex"


class TestKeys:
    def test_a_rotation_writes_no_data_and_former_versions_are_needed_no_more(
        self, encrypted: Dependencies, author: Actor, admin: Actor, service: MemoryKeyService
    ) -> None:
        digest, before = upload(encrypted, author), files(encrypted)
        service.rotate()
        assert rewrap_keys(encrypted, admin).tenants == ("acme",)
        service.forget()
        assert files(encrypted) == before
        assert encrypting(encrypted, lambda: service).for_tenant("acme").artifacts.get(digest) == WORDS

    def test_a_service_that_is_away_stops_what_is_encrypted_and_nothing_else(
        self, encrypted: Dependencies, author: Actor, admin: Actor, service: MemoryKeyService
    ) -> None:
        digest = upload(encrypted, author)
        service.away = True
        assert encrypted.for_tenant("acme").artifacts.get(digest) == WORDS, "the key is in memory"
        other = encrypting(encrypted, lambda: service)
        assert [view.tenant.name for view in tenants.list_tenants(other, admin).tenants] == ["acme"]
        with pytest.raises(Unavailable) as refused:
            other.for_tenant("acme").artifacts.get(digest)
        assert refused.value.error_code == "key_service_unreachable"
        service.away = False
        assert other.for_tenant("acme").artifacts.get(digest) == WORDS

    def test_a_service_that_answers_with_another_key_is_found_out(
        self, deps: Dependencies, author: Actor, service: MemoryKeyService
    ) -> None:
        class Liar(MemoryKeyService):
            def unwrap(self, wrapped: str, context: str) -> bytes:
                return bytes(32)

        with pytest.raises(Corrupt) as refused:
            upload(encrypting(deps, Liar), author)
        assert refused.value.error_code == "key_service_lies"
        assert files(deps) == {}
        honest = encrypting(deps, lambda: service)
        upload(honest, author)
        with pytest.raises(Corrupt):
            upload(encrypting(deps, Liar), author, b"more")

    def test_without_a_key_in_the_settings_what_is_encrypted_is_refused_by_name(self, encrypted: Dependencies, author: Actor) -> None:
        upload(encrypted, author)
        with pytest.raises(InvalidInput) as refused:
            upload(encrypting(encrypted, None), author, b"more")
        assert refused.value.error_code == "encryption_off"


def kept(deps: Dependencies, request: str, text: str) -> KeptWords:
    now = deps.clock.now()
    return KeptWords(tenant="acme", request=request, text=text, answer=f"answer to {text}", at=now, expires_at=now + timedelta(days=1))


def served(deps: Dependencies, request: str) -> RequestRow:
    return sample.request("acme").model_copy(update={"id": request, "alias": "acme/desk", "at": deps.clock.now(), "version": 1})


class TestWords:
    def keep(self, deps: Dependencies, *texts: str) -> None:
        with deps.ledger.work("acme") as work:
            work.requests.add([served(deps, f"req_{number}") for number in range(len(texts))])
            work.contents.add([kept(deps, f"req_{number}", text) for number, text in enumerate(texts)])

    @on_both_databases
    def test_they_are_read_as_they_were_kept_and_recorded_as_noise(self, encrypted: Dependencies) -> None:
        self.keep(encrypted, "the mill has lost its keys", "")
        with encrypted.ledger.work("acme", write=False) as work:
            assert work.contents.get("req_0") == kept(encrypted, "req_0", "the mill has lost its keys")
            assert [one.text for one in work.contents.page("", 10)] == ["the mill has lost its keys", ""]
            assert work.contents.get("req_9") is None
        assert "mill" not in everything(replace(encrypted, ledger=unsealed(encrypted)))
        with encrypted.ledger.work("acme") as work:
            assert work.contents.forget(["req_0"]) == 1
            assert work.contents.purge(encrypted.clock.now() + timedelta(days=2)) == 1

    def test_words_of_another_request_are_refused(self, encrypted: Dependencies) -> None:
        self.keep(encrypted, "one", "other")
        with unsealed(encrypted).work("acme") as work:
            one, other = work.contents.page("", 2)
            work.contents.forget(["req_0"])
            work.contents.add([one.model_copy(update={"text": other.text})])
        with encrypted.ledger.work("acme", write=False) as work:
            with pytest.raises(Corrupt) as refused:
                work.contents.get("req_0")
            assert refused.value.error_code == "words_corrupt"
            assert work.contents.get("req_1") is not None


class TestSwitch:
    def test_only_a_workspace_that_holds_nothing_is_switched(self, deps: Dependencies, author: Actor) -> None:
        demand_nothing_stored(deps)
        upload(deps, author)
        with pytest.raises(Conflict):
            demand_nothing_stored(deps)


def keep_words(deps: Dependencies, *requests: str, fails: bool = False) -> None:
    with deps.ledger.work("acme") as work:
        work.requests.add([served(deps, request) for request in requests])
        work.contents.add([kept(deps, request, "words") for request in requests])
        if fails:
            raise RuntimeError("the record was lost before the commit")


def test_a_key_that_was_rolled_back_encrypts_nothing(deps: Dependencies, service: MemoryKeyService) -> None:
    """Another process could not read what it had encrypted."""
    one, other = (encrypting(deps, lambda: service) for _ in range(2))
    with pytest.raises(RuntimeError):
        keep_words(one, "req_0", "req_1", fails=True)
    keep_words(one, "req_3")
    with other.ledger.work("acme", write=False) as work:
        found = work.contents.get("req_3")
    assert found.text == "words"
