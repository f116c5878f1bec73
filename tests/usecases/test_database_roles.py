"""The whole way of a release, each part by the process whose work it is, with its own user of the database."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from sqlalchemy import make_url

from support.postgresql import GATEWAY, WORKER, Server, as_user
from support.usecases import open_workspace, write_objective
from tailorbird.auth import KeyFileSealer
from tailorbird.domain.release import ReleaseState
from tailorbird.ledger import open_ledger
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Dependencies, Progress, admit
from tailorbird.usecases.identities import NewKey, act_as, create_api_key, disable, revoke_api_key
from tailorbird.usecases.maintenance.audit import make_checkpoint, verify_log
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit
from tailorbird.usecases.tenants import purge


def by(deps: Dependencies, url: str, user: str) -> Dependencies:
    return replace(deps, ledger=open_ledger(as_user(url, user), deps.clock, KeyFileSealer(deps.workspace)))


def test_worker_and_gateway_do_their_parts(postgresql: Server, tmp_path: Path) -> None:
    url = postgresql.empty()
    owner = open_workspace(tmp_path / "workspace", url)
    postgresql.make_roles(str(make_url(url).database), owner.ledger.role_script())
    worker, gateway = by(owner, url, WORKER), by(owner, url, GATEWAY)
    with closing(owner.ledger), closing(worker.ledger), closing(gateway.ledger):
        gateway.ledger.migrate()
        ended = submit.adapt(worker, act_as(worker, "acme", "author"), write_objective(tmp_path / "job", ladder=["floor"]), Progress())
        assert ended.conclusion.release is not None
        release = ended.conclusion.release
        promotion.sign_and_decide(gateway, act_as(gateway, "acme", "approver"), release, "approve", "read")
        promotion.stage(gateway, act_as(gateway, "acme", "operator"), release)
        moved = promotion.promote(gateway, act_as(gateway, "acme", "operator"), release)
        assert moved.entered.state is ReleaseState.PRODUCTION
        assert admit(gateway, LoadRequest(tenant="acme", release=release, purpose="production")).id == release
        admin = act_as(gateway, "acme", "admin")
        made = create_api_key(gateway, admin, NewKey(name="shop"))
        revoke_api_key(gateway, admin, made.key.id)
        disable(gateway, admin, "viewer")
        make_checkpoint(worker, act_as(worker, "acme", "worker"))
        purge(gateway)
        assert verify_log(gateway, admin).problems == ()
