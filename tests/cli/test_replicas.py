"""``tailorbird replica`` as somebody types it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from support.cli import tailorbird
from tailorbird.domain.engine_replica import ReplicaStanding
from tailorbird.ledger import open_ledger

ONE, TWO = "http://10.0.0.7:8000", "http://10.0.0.8:8000"


def test_replicas_are_listed_drained_and_put_back(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    refused = tailorbird(tmp_path, "replica", "drain", ONE)
    assert (refused.returncode, "replica_missing" in refused.stderr) == (1, True)
    ledger = open_ledger(f"sqlite:///{tmp_path / '.tailorbird' / 'tailorbird.db'}")
    with ledger.system() as system:
        seen = [ReplicaStanding(address=ONE, under_way=2), ReplicaStanding(address=TWO)]
        system.gateways.tell_replicas("gateway", seen, datetime.now(UTC))
    ledger.close()
    assert f"{ONE} is drained" in tailorbird(tmp_path, "replica", "drain", ONE).stdout
    last = tailorbird(tmp_path, "replica", "drain", TWO)
    assert "replica_last" in last.stderr
    told = json.loads(tailorbird(tmp_path, "replica", "list", "--json").stdout)
    assert [(one["address"], one["drained"]) for one in told] == [(ONE, True), (TWO, False)]
    shown = tailorbird(tmp_path, "replica", "list").stdout
    assert "0 of 1 gateways follow" in shown
    assert f"{ONE} is asked again" in tailorbird(tmp_path, "replica", "undrain", ONE).stdout
