"""Encryption at rest of a workspace: how it stands, switched on before anything is stored, and a new workspace key for the same data."""

from __future__ import annotations

from tailorbird.auth import Action
from tailorbird.domain.errors import Conflict
from tailorbird.domain.value import Value
from tailorbird.system.files import is_in_memory
from tailorbird.usecases.audit_events import record, require_host
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import local
from tailorbird.usecases.tenant_keys import TenantKeys


class TenantEncryption(Value):
    """Whether a tenant has a data key."""

    tenant: str
    has_key: bool


class EncryptionStatus(Value):
    """How it stands with a workspace. ``decrypts_in_memory``: what is read is decrypted into memory, and to no disk."""

    encrypts: bool
    decrypts_in_memory: bool
    tenants: tuple[TenantEncryption, ...]


class Wrapped(Value):
    """Tenants whose data key was made, or wrapped again."""

    tenants: tuple[str, ...]


@local(Action.MANAGE_TENANTS)
def encryption_status(deps: Dependencies, actor: Actor) -> EncryptionStatus:
    """How it stands. Raises Forbidden."""
    require_host(deps, actor)
    found = []
    for tenant in _tenants(deps):
        with deps.ledger.work(tenant, write=False) as work:
            found.append(TenantEncryption(tenant=tenant, has_key=work.data_keys.get() is not None))
    return EncryptionStatus(
        encrypts=deps.keys is not None and deps.keys.encrypts,
        decrypts_in_memory=deps.clear is not None and is_in_memory(deps.clear()),
        tenants=tuple(found),
    )


def demand_nothing_stored(deps: Dependencies) -> None:
    """Raises Conflict where a tenant has stored anything: it would stay in the clear."""
    for tenant in _tenants(deps):
        with deps.ledger.work(tenant, write=False) as work:
            if work.storage.total().artifacts:
                raise Conflict(
                    f"tenant {tenant} has stored artifacts in the clear",
                    "enable encryption in a new workspace, before anything is adapted or uploaded there",
                )


@local(Action.MANAGE_TENANTS)
def make_data_keys(deps: Dependencies, actor: Actor) -> Wrapped:
    """Gives every tenant a data key, and opens those that are there.

    Raises Forbidden, Conflict (the settings name no key), and what the key service raises.
    """
    require_host(deps, actor)
    keys, names = _keys(deps), _tenants(deps)
    for name in names:
        keys.of(name)
    with deps.ledger.work(actor.tenant) as work:
        record(work, "workspace.encrypted", actor.name, actor.tenant, deps.clock.now(), {"tenants": len(names)})
    return Wrapped(tenants=tuple(names))


@local(Action.MANAGE_TENANTS)
def rewrap_keys(deps: Dependencies, actor: Actor) -> Wrapped:
    """Wraps every tenant's data key by the newest version of the workspace's. Nothing else is written.

    Raises Forbidden, Conflict (the settings name no key), and what the key service raises: those that were wrapped again stay so.
    """
    require_host(deps, actor)
    keys = _keys(deps)
    done = tuple(name for name in _tenants(deps) if keys.rewrap(name))
    with deps.ledger.work(actor.tenant) as work:
        record(work, "workspace.key_rotated", actor.name, actor.tenant, deps.clock.now(), {"tenants": len(done)})
    return Wrapped(tenants=done)


def _tenants(deps: Dependencies) -> list[str]:
    with deps.ledger.system(write=False) as system:
        return list(system.tenants.all())


def _keys(deps: Dependencies) -> TenantKeys:
    if deps.keys is None or not deps.keys.encrypts:
        raise Conflict("this workspace does not encrypt", "tailorbird encryption enable", code="encryption_off")
    return deps.keys
