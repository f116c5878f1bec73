"""Enterprise search on Cranfield: the choice of ``adapt`` against the best untuned ranking, and 10,000 questions under access groups.

In: Cranfield (TAILORBIRD_TEST_DATA), MiniLM, SmolLM2's tokenizer. Out: the lower end of a paired interval, and a count. Five runs have each
another fifth of the queries as their sealed test; what is compared on it is the release against words, meaning and both, untuned. Then a
store of passages under random access groups is served, and every passage that stood in a prompt is held against what the asker may read.
A model of two layers with random weights answers there: nothing hangs on what it says.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from scipy.stats import bootstrap

from tailorbird import settings, wiring
from tailorbird.base_models import pull
from tailorbird.data import load_rows
from tailorbird.domain.dataset import EVERYONE, SnapshotManifest, Split
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.release import Release
from tailorbird.evaluation import relevance_of
from tailorbird.evaluation.ranking import ndcg
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.rungs import local_retrieval
from tailorbird.text.search_index import SearchIndex
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, NewKey, act_as, create_api_key, initialise, key_path
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs.submit import adapt

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data")) / "cranfield"
MODELS = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
WORK = ROOT / ".cache" / "benchmarks" / "jobs" / "cranfield"
TENANT, FOLDS, CONFIDENCE, SEED = "bench", 5, 0.95, 20
ORIGIN = {"origin": "Cranfield collection", "license": "proprietary, free for research", "collected": "1967"}
ANYBODY = frozenset({EVERYONE})
GROUPS = ("aero", "structures", "propulsion", "materials", "board", "legal")
QUESTIONS = {False: 10_000, True: 500}


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def measure(quick: bool) -> dict[str, dict[str, Any]]:
    """Bars of both parts, by name."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    settings.save_settings(WORK, {"tenant": TENANT})
    pull("minilm-l6-v2", MODELS, open_model_reader)
    (WORK / "models").symlink_to(MODELS)
    deps = wiring.open_dependencies(settings.load_settings(WORK))
    initialise(deps, TENANT, FIRST_PEOPLE)
    gain, releases = _gain(deps, range(1 if quick else FOLDS))
    return {"search_gain": gain, "search_unreadable_passages": _unreadable(deps, releases[0], QUESTIONS[quick])}


def _act(deps: Dependencies, name: str) -> Actor:
    return act_as(deps, TENANT, name, key_path(deps, TENANT, name))


def _gain(deps: Dependencies, folds: Sequence[int]) -> tuple[dict[str, Any], list[Release]]:
    """The paired difference over all queries, each on the release of a run that sealed it."""
    found: dict[str, list[float]] = {}
    releases = []
    for fold in folds:
        started = time.perf_counter()
        release = _adapted(deps, _search_objective(fold))
        releases.append(release)
        for name, scores in _scores(deps, release).items():
            found.setdefault(name, []).extend(scores)
        rung = release.content.rung.value
        say(f"fold {fold}: released {rung} in {time.perf_counter() - started:.0f} s; " + _told(found))
    means = {name: float(np.mean(scores)) for name, scores in found.items()}
    best = max((name for name in means if name != "the tool's choice"), key=means.__getitem__)
    differences = np.array(found["the tool's choice"]) - np.array(found[best])
    interval = bootstrap((differences,), np.mean, confidence_level=CONFIDENCE, rng=np.random.default_rng(SEED)).confidence_interval
    bar = {
        "value": round(float(interval.low), 4),
        "bar": 0.0,
        "unit": "nDCG@10, lower end of the paired 95 % interval",
        "holds": bool(interval.low > 0) if len(folds) == FOLDS else None,
        "in": "full",
        "difference": round(float(differences.mean()), 4),
        "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "queries": len(differences),
        "ndcg@10": {name: round(mean, 4) for name, mean in means.items()},
        "best_untuned": best,
        "released": [f"{one.content.rung.value}" for one in releases],
    }
    return bar, releases


def _told(found: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {np.mean(scores):.3f}" for name, scores in found.items())


def _adapted(deps: Dependencies, path: Path) -> Release:
    """What ``adapt`` releases, approved."""
    ended = adapt(deps, _act(deps, "author"), path, Progress(tell=lambda text: say(f"  {text}")))
    if ended.conclusion is None or ended.conclusion.release is None:
        raise SystemExit(f"{path.parent.name}: no release ({ended.conclusion.reason if ended.conclusion else 'no conclusion'})")
    promotion.sign_and_decide(deps, _act(deps, "approver"), ended.conclusion.release, "approve", "the benchmark reads no further")
    with deps.ledger.work(TENANT, write=False) as work:
        return work.releases.get(ended.conclusion.release)


def _search_objective(fold: int) -> Path:
    """All queries; every fifth, from the ``fold``-th on, is in the sealed test."""
    folder = WORK / f"search-{fold}"
    folder.mkdir()
    queries = (DATA / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    parts = {"rest.jsonl": [], "test.jsonl": []}  # type: dict[str, list[str]]
    for place, line in enumerate(queries):
        parts["test.jsonl" if place % FOLDS == fold else "rest.jsonl"].append(line)
    for name, lines in parts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("corpus.jsonl", "qrels.tsv"):
        shutil.copy(DATA / name, folder / name)
    source = {"text": "text", "id": "_id", "qrels": "qrels.tsv", "source": ORIGIN}
    return _write(
        folder,
        name=f"search-{fold}",
        task={"kind": "rank", "instruction": "Rank the abstracts by how well they answer the query."},
        data=[{"path": "rest.jsonl"} | source, {"path": "test.jsonl", "split": "test"} | source],
        documents=[{"path": "corpus.jsonl", "id": "_id", "title": "title", "text": "text", "source": ORIGIN}],
        base_model="minilm-l6-v2",
        # The target is one that each rung passes: what is asked is which of them is chosen, and what that gains.
        kpis=[{"metric": "ndcg@10", "target": 0.2}],
        margin=0.0,
        ladder=["search", "bi-encoder"],
    )


def _write(folder: Path, **content: Any) -> Path:
    business = {"goal": "Find what answers.", "owner": "benchmark", "risk": "minimal", "use": "research"}
    path = folder / "objective.yaml"
    path.write_text(
        yaml.safe_dump({"tenant": TENANT, "business": business, "budget": {"hours": 4}, "seed": SEED} | content), encoding="utf-8"
    )
    return path


def _scores(deps: Dependencies, release: Release) -> dict[str, list[float]]:
    """nDCG@10 of each sealed query: by the release as it is served, and by each untuned way."""
    retrieval = release.content.retrieval
    assert retrieval is not None
    local, encoder = local_retrieval(retrieval, deps.artifacts), open_encoder()
    index, base = SearchIndex(Path(local.index)), deps.artifacts.get_tree(release.content.base_model)
    with deps.ledger.work(TENANT, write=False) as work:
        manifest = work.records.get(SnapshotManifest, release.content.snapshot)
    rows = load_rows(manifest, deps.artifacts, Split.TEST)
    plain = encoder.embed(base, [row.text for row in rows])
    ways = {
        "words": lambda i: (rows[i].text, []),
        "meaning": lambda i: ("", [plain[i]]),
        "words and meaning": lambda i: (rows[i].text, [plain[i]]),
        "the tool's choice": partial(_served, local, [row.text for row in rows], plain, _tuned(encoder, base, local, rows)),
    }
    scored = {}
    for name, way in ways.items():
        found = [[one.entry.id for one in index.find(*way(i), ANYBODY, 10)] for i in range(len(rows))]
        scored[name] = [ndcg(ranked, relevance_of(row.target), 10) or 0.0 for ranked, row in zip(found, rows, strict=True)]
    return scored


def _tuned(encoder: Any, base: Path, local: LocalRetrieval, rows: Sequence[Any]) -> Any:
    return encoder.embed(base, [row.text for row in rows], Path(local.tuned)) if local.tuned else None


def _served(local: LocalRetrieval, texts: Sequence[str], plain: Any, tuned: Any, place: int) -> tuple[str, list[Any]]:
    """A query as the engine looks it up (``inference/retrieval.py``)."""
    vectors = [plain[place], *([tuned[place]] if tuned is not None else [])] if "vectors" in local.spec.ways else []
    return (texts[place] if "words" in local.spec.ways else ""), vectors


def _unreadable(deps: Dependencies, lender: Release, questions: int) -> dict[str, Any]:
    """Passages in prompts that their asker may not read, over so many questions through the gateway."""
    drawn = random.Random(SEED)
    path, access = _access_objective(drawn, lender.digest)
    release = _adapted(deps, path)
    operator = _act(deps, "operator")
    promotion.stage(deps, operator, release.digest)
    promotion.promote(deps, operator, release.digest)
    subsets = [groups for size in range(len(GROUPS) + 1) for groups in combinations(GROUPS, size)]
    admin = _act(deps, "admin")
    keys = [create_api_key(deps, admin, NewKey(name=f"k{n}", groups=groups)).secret for n, groups in enumerate(subsets)]
    sentences = [sentence for document in access for sentence in _sentences(document)]
    asked = [(place := drawn.randrange(len(subsets)), keys[place], drawn.choice(sentences)) for _ in range(questions)]
    with _gateway() as url, httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda one: _passages(client, one[1], one[2]), asked))
    readable = [frozenset(name for name, groups in _groups(access).items() if groups & {*subset, EVERYONE}) for subset in subsets]
    crossed = sum(
        passage.partition("#")[0] not in readable[place] for (place, _, _), found in zip(asked, shown, strict=True) for passage in found
    )
    empty = sum(not found for found in shown)
    told = {"questions": len(asked), "passages": sum(map(len, shown)), "without_a_passage": empty, "group_sets": len(subsets)}
    return {"value": crossed, "bar": 0, "unit": "passages", "holds": crossed == 0 and empty == 0, "in": "full"} | told


def _groups(documents: Sequence[dict[str, Any]]) -> dict[str, frozenset[str]]:
    return {one["id"]: frozenset(one["groups"]) for one in documents}


def _sentences(document: dict[str, Any]) -> list[str]:
    """Questions are sentences of documents, whether the asker may read these or not: what fits best is often closed to them."""
    return [part.strip() for part in document["text"].split(" . ") if 5 <= len(part.split()) <= 40][:3]


def _access_objective(drawn: random.Random, lender: str) -> tuple[Path, list[dict[str, Any]]]:
    """Cranfield's abstracts under random groups: one in ten open, one in thirty closed to all, the others for one to three groups."""
    folder = WORK / "answers"
    folder.mkdir()
    documents = []
    for line in (DATA / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row, luck = json.loads(line), drawn.random()
        groups = [EVERYONE] if luck < 0.1 else [] if luck < 0.133 else drawn.sample(GROUPS, drawn.randint(1, 3))
        if row["text"].strip():
            documents.append({"id": row["_id"], "text": row["text"], "groups": groups})
    _lines(folder / "documents.jsonl", documents)
    sentences = [sentence for document in documents for sentence in _sentences(document)]
    _lines(folder / "rows.jsonl", [{"text": text, "label": "nothing"} for text in dict.fromkeys(drawn.sample(sentences, 400))])
    _write_small_model(folder / "small")
    path = _write(
        folder,
        name="answers",
        task={"kind": "generate", "instruction": "Answer from the passages.", "format": {"pattern": "(?s).*"}},
        data=[{"path": "rows.jsonl", "source": ORIGIN}],
        documents=[{"path": "documents.jsonl", "access": "groups", "source": ORIGIN}],
        grounding={"encoder": lender},
        base_model="small",
        kpis=[{"metric": "format_valid", "target": 0.5}],
        ladder=["grounding"],
    )
    return path, documents


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_small_model(folder: Path) -> None:
    """Two layers with random weights, with the tokenizer of SmolLM2."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    source = pull("smollm2-135m", MODELS, open_model_reader)
    shutil.copytree(source, folder)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.from_pretrained(source, **shape, head_dim=16)
    torch.manual_seed(SEED)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@contextmanager
def _gateway() -> Iterator[str]:
    """``tailorbird serve`` over the workspace, with its engine."""
    port = 18_000 + os.getpid() % 2_000
    command = [sys.executable, "-m", "tailorbird.cli.main", "serve", "--port", str(port), "--workspace", str(WORK)]
    with (WORK / "serve.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if server.poll() is not None:
                    raise SystemExit((WORK / "serve.log").read_text()[-2000:])
                try:
                    if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.3)
            yield url
        finally:
            server.terminate()
            server.wait(30)


def _passages(client: httpx.Client, key: str, question: str) -> list[str]:
    """Ids of the passages that stood in the prompt of an answer."""
    body = {"model": f"{TENANT}/answers", "messages": [{"role": "user", "content": question}], "max_tokens": 1}
    answered = client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    answered.raise_for_status()
    return [one["id"] for one in answered.json()["tailorbird"].get("passages", [])]


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv)))
