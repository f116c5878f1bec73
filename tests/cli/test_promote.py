"""``tailorbird rollback``, as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.cli import tailorbird


def test_an_alias_of_another_tenant_is_not_ones_own_of_that_name(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    refused = tailorbird(tmp_path, "rollback", "globex/desk", "--as", "operator")
    assert refused.returncode == 1
    assert "error[alias_missing]" in refused.stderr
    assert "globex/NAME" in refused.stderr


def test_a_backup_is_restored_here_whatever_server_the_environment_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tailorbird.cli.main", "restore", "nowhere", "--workspace", "new"]
    environment = os.environ | {"TAILORBIRD_SERVER": "http://127.0.0.1:1"}
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "error[" in refused.stderr
    assert "local_only" not in refused.stderr
