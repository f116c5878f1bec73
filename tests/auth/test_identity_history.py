"""Who let whom in: the signatures of the log lead from the first admin to everybody, or the entry that breaks the chain is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tailorbird import auth
from tailorbird.auth import IdentityHistory, identity_problems
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.event import Event, LogEntry
from tailorbird.domain.identity import Identity, IdentityChange, Role, Rotation, Signature

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Story:
    """Events of a tenant's identities, with real keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = IdentityHistory()
        self.index = 0

    def key(self, name: str) -> auth.PrivateKey:
        path = self.folder / f"{name}.key"
        if not path.exists():
            auth.create_key(path)
        return auth.load_key(path)

    def tell(self, kind: str, subject: str, signature: Signature | None, actor: str = "init", **data: str | bool) -> None:
        rows = {f"identity/{subject}": "sha256:" + "0" * 64}
        event = Event(kind=kind, tenant="acme", actor=actor, subject=subject, at=NOW, data={**data}, rows=rows, signature=signature)
        self.history.take(LogEntry(index=self.index, leaf_hash="", event=event))
        self.index += 1

    def add(self, name: str, role: str, by: str, key: str = "") -> None:
        public = auth.public_key(self.key(key or name))
        change = IdentityChange(tenant="acme", identity=name, change="add", roles=(Role(role),), public_key=public)
        self.tell("identity.added", name, auth.sign(self.key(by), by, "identity", digest_of(change), NOW), roles=role, public_key=public)

    def disable(self, name: str, by: str) -> None:
        change = IdentityChange(tenant="acme", identity=name, change="disable")
        self.tell("identity.disabled", name, auth.sign(self.key(by), by, "identity", digest_of(change), NOW))

    def rotate(self, name: str, before: str, after: str, *, leaked: bool = False) -> None:
        public = auth.public_key(self.key(after))
        rotation = Rotation(tenant="acme", identity=name, public_key=public, leaked=leaked)
        signature = auth.sign(self.key(before), name, "rotate", digest_of(rotation), NOW)
        self.tell("identity.rotated", name, signature, public_key=public, leaked=leaked)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """An admin, who came first, and an approver."""
    made = Story(tmp_path)
    made.add("admin", "admin", by="admin")
    made.add("ada", "approver", by="admin")
    return made


def test_a_chain_from_the_first_admin_holds(story: Story) -> None:
    story.add("second", "admin", by="admin")
    story.rotate("second", "second", "second-new")
    story.disable("ada", by="admin")
    assert story.history.problems == []
    people = [
        Identity(
            tenant="acme",
            name="second",
            roles=frozenset({Role.ADMIN}),
            public_key=auth.public_key(story.key("second-new")),
            former_keys=(auth.public_key(story.key("second")),),
            created_at=NOW,
            admitted_by=("admin",),
        ),
        Identity(
            tenant="acme",
            name="ada",
            roles=frozenset({Role.APPROVER}),
            public_key=auth.public_key(story.key("ada")),
            created_at=NOW,
            disabled_at=NOW,
            admitted_by=("admin",),
            disabled_by="admin",
        ),
    ]
    assert list(identity_problems(story.history, people)) == []
    swapped = people[1].model_copy(update={"public_key": auth.public_key(story.key("mallory"))})
    unknown = people[1].model_copy(update={"name": "eve"})
    assert list(identity_problems(story.history, [swapped, unknown])) == [
        "record of acme: identity ada: its roles, keys or state are not what was signed",
        "record of acme: identity eve: nobody signed for it",
    ]


def test_nobody_but_an_admin_lets_somebody_in(story: Story) -> None:
    story.add("eve", "admin", by="ada")
    story.add("mallory", "admin", by="mallory")
    assert [problem.partition(": ")[2] for problem in story.history.problems] == [
        "identity.added acme/eve: ada, who signed it, is no admin",
        "identity.added acme/mallory: mallory, who signed it, is no admin",
    ]


def test_an_unsigned_change_is_named(story: Story) -> None:
    public = auth.public_key(story.key("eve"))
    story.tell("identity.added", "eve", None, actor="admin", roles="admin", public_key=public)
    story.tell("identity.added", "ann", None, actor="host/admin", roles="admin", public_key=public)
    story.tell("identity.disabled", "ada", None)
    story.tell("identity.rotated", "ada", None, public_key=public, leaked=False)
    assert len(story.history.problems) == 4


def test_a_signature_holds_for_what_was_signed_alone(story: Story) -> None:
    """An admin's signature over somebody else's coming, with other roles, or with another key, is none."""
    public = auth.public_key(story.key("eve"))
    change = IdentityChange(tenant="acme", identity="eve", change="add", roles=(Role.VIEWER,), public_key=public)
    signature = auth.sign(story.key("admin"), "admin", "identity", digest_of(change), NOW)
    story.tell("identity.added", "eve", signature, roles="admin", public_key=public)
    assert story.history.problems[0].endswith("the signature does not hold")


def test_a_tenant_of_another_host_begins_with_an_admin_that_the_host_names(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.tell("identity.added", "admin", None, actor="house/admin", roles="admin", public_key=auth.public_key(story.key("admin")))
    story.add("ada", "approver", by="admin")
    assert story.history.problems == []


def test_nobody_is_taken_as_found(story: Story) -> None:
    """Whoever holds the log's key alone could else let in whom they like."""
    public = auth.public_key(story.key("eve"))
    story.tell("identity.found", "eve", None, actor="migration", roles="admin", public_key=public, former_keys="", disabled=False)
    eve = Identity(tenant="acme", name="eve", roles=frozenset({Role.ADMIN}), public_key=public, created_at=NOW)
    assert list(identity_problems(story.history, [eve])) == ["record of acme: identity eve: nobody signed for it"]
