"""What encryption at rest costs: curation, training, and a hot load, each with a key and without, by turns, in processes of their own.

Curation freezes rows made from Banking77's words; training fine-tunes all weights of the small base with a checkpoint at each evaluation
(the costliest: 1.6 GB each time) and stores them; a hot load reads those weights from the store into the engine, in a process that has read
nothing before. The value is how much longer the whole takes with a key, in per cent, by the medians. The quick run proves nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tailorbird.domain.identity import DataKey
from tailorbird.ledger import open_artifacts
from tailorbird.ledger.artifacts import ArtifactStore

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "data"), str(HERE.parent / "training")]
ROOT = HERE.parents[1]
KEY = DataKey("0" * 32, bytes(range(32)))
BAR = 5.0
DIGEST = "sha256:" + "0" * 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=4, metavar=("WHAT", "FOLDER", "SIDE", "SIZE"))
    given = parser.parse_args()
    if given.worker:
        what, folder, side, size = given.worker
        print(json.dumps(WORK[what](Path(folder), side == "encrypted", int(size))))
        return
    sizes = {"curation": 10_000, "training": 2, "load": 1} if given.quick else {"curation": 200_000, "training": 12, "load": 1}
    rounds = {"curation": 1, "training": 1, "load": 3} if given.quick else {"curation": 5, "training": 7, "load": 15}
    found = {}
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name) / "rows.csv", sizes["curation"])
        for what, size in sizes.items():
            took = compared(what, Path(name), size, rounds[what])
            # What counts is the ratio within a pair: the disk of one round is not that of another.
            pairs = zip(took["encrypted"], took["clear"], strict=True)
            more = 100 * (statistics.median(encrypted / clear for encrypted, clear in pairs) - 1)
            told = {side: [round(each, 3) for each in seconds] for side, seconds in took.items()}
            found[f"at_rest_{what}_percent"] = {
                "value": round(more, 2),
                "bar": BAR,
                "unit": "% longer",
                "holds": None if given.quick else more <= BAR,
                "seconds": told,
            } | ({"in": "full"} if given.quick else {})
    print(json.dumps(found))


def write_rows(path: Path, count: int) -> None:
    from rows import made_rows

    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *made_rows(count, 3)])


def compared(what: str, folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, which take turns in beginning."""
    took: dict[str, list[float]] = {"clear": [], "encrypted": []}
    for number in range(rounds):
        for side in sorted(took, reverse=bool(number % 2)):
            command = [sys.executable, __file__, "--worker", what, str(folder), side, str(size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            took[side].append(json.loads(done.stdout.splitlines()[-1])["seconds"])
            print(what, side, took[side][-1], file=sys.stderr, flush=True)
    return took


def store_of(folder: Path, *, encrypted: bool) -> ArtifactStore:
    """The store of one side. Trees are decrypted into memory, to a folder that is new."""
    opened = open_artifacts(str(folder / "artifacts"), folder / "cache")
    return opened.sealed_by(KEY, Path(tempfile.mkdtemp(dir="/dev/shm"))) if encrypted else opened


def curation(folder: Path, encrypted: bool, _size: int) -> dict[str, Any]:
    from objectives import objective_of

    from tailorbird.data import SnapshotRequest, build_snapshot

    with tempfile.TemporaryDirectory(dir=folder) as place:
        store = store_of(Path(place), encrypted=encrypted)
        start = time.perf_counter()
        build_snapshot(SnapshotRequest(objective_of([{"path": "rows.csv"}]), folder, store, {}, lambda _: None))
        return {"seconds": time.perf_counter() - start}


def training(folder: Path, encrypted: bool, size: int) -> dict[str, Any]:
    """``size`` steps, the held-out rows read after half of them and at the end; then the weights are stored, for the hot load."""
    from own import job
    from workload import Spec

    from tailorbird.training import open_trainer

    side = folder / ("encrypted" if encrypted else "clear")
    shutil.rmtree(side, ignore_errors=True)
    side.mkdir()
    spec = Spec("own", "full", "", False, size, str(base()), "", str(side / "run"), threads=0)
    results = Path(tempfile.mkdtemp(dir="/dev/shm")) if encrypted else None
    asked = job(spec)
    settings = asked.settings.model_copy(update={"evaluations_per_epoch": 2})
    asked = asked.model_copy(update={"settings": settings, "seal_key": KEY.secret.hex() if encrypted else "", "results": results})
    start = time.perf_counter()
    trained = open_trainer().train(asked, lambda _: None)
    tree = store_of(side, encrypted=encrypted).put_tree(trained.folder)
    seconds = time.perf_counter() - start
    shutil.rmtree(side / "run")
    if results is not None:
        shutil.rmtree(results)
    (side / "tree").write_text(tree)
    return {"seconds": seconds}


def load(folder: Path, encrypted: bool, _size: int) -> dict[str, Any]:
    """From the store into the engine: the trees are checked, and for the encrypted side decrypted, as at each start."""
    from tailorbird.domain.deployment import Servable
    from tailorbird.domain.objective import TaskKind
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.inference import open_engine

    side = folder / ("encrypted" if encrypted else "clear")
    store, engine = store_of(side, encrypted=encrypted), open_engine("auto")
    start = time.perf_counter()
    weights = store.get_tree((side / "tree").read_text())
    prompt = PromptSpec(instruction="", labels=())
    engine.load(
        Servable(id=DIGEST, tenant="bench", task=TaskKind.GENERATE, base=str(base()), adapter=None, weights=str(weights), prompt=prompt)
    )
    seconds = time.perf_counter() - start
    if encrypted:
        shutil.rmtree(weights.parent)
    return {"seconds": seconds}


def base() -> Path:
    """The small base model, converted once."""
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    return pull("smollm2-135m", ROOT / ".cache" / "models", open_model_reader)


WORK = {"curation": curation, "training": training, "load": load}

if __name__ == "__main__":
    main()
