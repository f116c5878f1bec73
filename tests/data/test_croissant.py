"""The description of a snapshot, held against the library of those who wrote the specification."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.data import Store, build, make_objective
from tailorbird.data.provenance import redescribed
from tailorbird.domain.dataset import SnapshotManifest

#: Reads a description and the rows that it names; prints a row's fields. Its environment has mlcroissant and pandas, ours has neither.
READ = """
import sys, warnings, logging
logging.disable(logging.INFO)
import mlcroissant as mlc
data = mlc.Dataset(jsonld=sys.argv[1])
assert not data.metadata.ctx.issues.errors, data.metadata.ctx.issues.report()
print(data.metadata.ctx.issues.report())
found = list(data.records("rows"))
print(len(found), sorted(found[0]))
"""


def made(folder: Path) -> tuple[SnapshotManifest, Store]:
    said = [" ".join(f"w{n * factor % 9973}" for factor in (31, 577, 1009, 4001)) for n in range(60)]
    rows = [{"text": f"words of row {words}", "label": "ab"[n % 2]} for n, words in enumerate(said)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store()
    return build(make_objective({"path": "d.jsonl"}), folder, store=store).manifest, store


def test_a_snapshot_is_described_beside_itself(tmp_path: Path) -> None:
    manifest, store = made(tmp_path)
    described = json.loads(store.get(manifest.metadata or ""))
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert described["distribution"][0]["sha256"] == manifest.rows.removeprefix("sha256:")
    assert (described["license"], described["datePublished"]) == (["Apache-2.0"], "2025-01-01")
    assert "words of row" not in json.dumps(described)


def test_a_rewritten_snapshot_is_described_anew(tmp_path: Path) -> None:
    manifest, store = made(tmp_path)
    other = json.loads(redescribed(store.get(manifest.metadata or ""), "sha256:" + "a" * 64, 59))
    assert other["distribution"][0]["sha256"] == "a" * 64
    assert "59 rows" in other["description"]


@pytest.mark.slow
def test_mlcroissant_reads_it_without_errors(tmp_path: Path) -> None:
    """In an environment of its own, which is kept: the library brings pandas and rdflib."""
    place = Path(__file__).resolve().parents[2] / ".cache" / "mlcroissant"
    python = place / "bin" / "python"
    if subprocess.run([str(python), "-c", "import mlcroissant"], capture_output=True, check=False).returncode if python.exists() else True:
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "mlcroissant==1.1.1"], check=True)
    manifest, store = made(tmp_path)
    described = json.loads(store.get(manifest.metadata or ""))
    rows = tmp_path / described["distribution"][0]["contentUrl"]
    rows.parent.mkdir(parents=True)
    rows.write_bytes(store.get(manifest.rows))
    (tmp_path / "croissant.json").write_bytes(store.get(manifest.metadata or ""))
    done = subprocess.run([str(python), "-c", READ, "croissant.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("60 ['rows/group', 'rows/id', 'rows/split', 'rows/target', 'rows/text']")
