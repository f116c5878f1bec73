"""The files that five everyday actions cross, from where they come in to where they have their effect (``domain/`` left out).

In: a set-up environment with the small model. Out: a chain a line, and exit status 1 where one is longer than its bar. A file is
crossed where one of its functions is on the call stack at the effect, or at the point where work is handed to another thread, process
or connection on the way there; what a function on the way merely asks for help is not counted.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
from anyio import to_thread

ROOT = Path(__file__).resolve().parents[1]
SOURCES = str(ROOT / "src" / "tailorbird")
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "training")]
BARS = {"label": 12, "approval": 8, "rollback": 6, "CSV row": 7, "LoRA step": 7}


class Watch:
    """The files on the stack whenever one of the functions is called that are watched now, in the order in which they were met."""

    def __init__(self) -> None:
        self._codes: set[CodeType] = set()
        self._found: list[str] = []
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType | None, event: str, _: Any) -> None:
        if event != "call" or frame is None or frame.f_code not in self._codes:
            return
        files: list[str] = []
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(SOURCES) and not name.startswith(f"{SOURCES}/domain/"):
                files.insert(0, name[len(SOURCES) + 1 :])
            frame = frame.f_back
        self._found.extend(file for file in dict.fromkeys(files) if file not in self._found)

    @contextmanager
    def on(self, *effects: Callable[..., Any]) -> Iterator[list[str]]:
        """Watches these."""
        self._codes, self._found = {effect.__code__ for effect in (*effects, to_thread.run_sync)}, []
        try:
            yield self._found
        finally:
            self._codes = set()


def decisions(watch: Watch, folder: Path) -> dict[str, list[str]]:
    """An approval and a rollback, over HTTP, to the row that is written."""
    from support.console import furnish as furnish_console
    from support.console import open_workspace, release_of
    from support.control import act, ask
    from tailorbird.crypto.canonical_json import digest_of, plain_json

    furnish_console(folder)
    deps = open_workspace(folder / "workspace")
    release = release_of(deps)
    with deps.ledger.work("acme") as work:
        approvals, aliases = type(work.releases).approve, type(work.aliases).put

    async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = await client.post(path, json=body or {})
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def approve(client: httpx.AsyncClient) -> None:
        path = f"/api/releases/{release}"
        shown = await client.get(f"{path}/statement", params={"decision": "approve", "reason": "read"})
        statement = shown.json()
        signature = act(deps, "approver").sign("approve", digest_of(statement))
        with watch.on(approvals) as files:
            await post(client, f"{path}/decisions", {"statement": statement, "signature": plain_json(signature)})
        chains["approval"] = files

    async def produce(client: httpx.AsyncClient) -> None:
        await post(client, f"/api/releases/{release}/stage")
        await post(client, f"/api/releases/{release}/promote")
        with watch.on(aliases) as files:
            await post(client, "/api/aliases/desk/rollback", {"reason": "measured", "withdraw": True})
        chains["rollback"] = files

    chains: dict[str, list[str]] = {}
    ask(deps, approve, "approver")
    ask(deps, produce, "operator")
    deps.ledger.close()
    return chains


def csv_row(watch: Watch, folder: Path) -> list[str]:
    """A row of a CSV file, from the use case that makes a snapshot to where it is read, in the confined process too."""
    from support.console import job, open_workspace
    from support.control import act
    from tailorbird.data.readers import data_file, formats
    from tailorbird.usecases import Progress
    from tailorbird.usecases.runs.submit import adapt

    deps = open_workspace(folder / "workspace")
    objective = job(folder / "job", "desk", "as good as people")
    with watch.on(formats.read_records) as files:
        adapt(deps, act(deps, "author"), objective, Progress())
    rows = next((folder / "job").rglob("*.csv"))
    with data_file.open_file(rows.name, rows, ".csv") as file, watch.on(data_file.Record.__init__) as confined:
        list(formats.records({"file": asdict(file), "wanted": None}))
    deps.ledger.close()
    return [*files, *(file for file in confined if file not in files)]


def lora_step(watch: Watch, base: Path, folder: Path) -> list[str]:
    """A step of a training, from the trainer to the update of the weights."""
    from support.training_samples import DIGEST, PROMPT, examples, settings
    from tailorbird.domain.plan import LoraSettings
    from tailorbird.ports.trainer import TrainingJob
    from tailorbird.training import open_trainer
    from tailorbird.training.loop import Optimiser
    from tailorbird.training.tree_attention import tree_attention

    lora = LoraSettings(rank=8, alpha=16, targets=("q_proj", "v_proj"))
    given = {"base": base, "base_digest": DIGEST, "snapshot": DIGEST, "prompt": PROMPT, "workspace": folder}
    job = TrainingJob(settings=settings("lora", lora=lora, epochs=1), train=examples(8), held_out=examples(12)[8:], **given)
    with watch.on(Optimiser.update, tree_attention) as files:
        open_trainer().train(job, lambda _: None)
    return files


def label(watch: Watch, base: Path, folder: Path) -> list[str]:
    """A warm request for one label: from the gateway's socket over that of the engine to the kernels."""
    from support.processes import ASK, CHAT, live
    from support.serving import House
    from tailorbird.inference import open_engine
    from tailorbird.inference.native.forward import NativeForward
    from tailorbird.inference.scheduling import Scheduler
    from tailorbird.integrations.loopback import EngineConnections
    from tailorbird.ports.engine import LoadRequest, Servable

    class Furnished(House):
        """Its releases are prompts on the small model."""

        def admit(self, request: LoadRequest) -> Servable:
            return super().admit(request).model_copy(update={"base": str(base)})

    house = Furnished(folder)
    house.point("routing", house.release())
    engine = open_engine()
    try:
        with live(house, engine) as served, httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as client:
            assert client.post(CHAT, json=ASK).status_code == 200
            body = ASK | {"messages": [{"role": "user", "content": "Where is the card that I was promised?"}]}
            with watch.on(EngineConnections.ask, Scheduler.add, NativeForward.hidden) as files:
                assert client.post(CHAT, json=body).status_code == 200
    finally:
        engine.close()
        house.ledger.close()
    return files


def main() -> int:
    """Measures and prints."""
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    chains: dict[str, list[str]] = {}
    watch = Watch()
    base = pull("smollm2-135m", ROOT / ".cache" / "models", open_model_reader)
    with tempfile.TemporaryDirectory() as name:
        chains |= decisions(watch, _made(Path(name) / "decisions"))
        chains["CSV row"] = csv_row(watch, _made(Path(name) / "rows"))
        chains["LoRA step"] = lora_step(watch, base, _made(Path(name) / "training"))
        chains["label"] = label(watch, base, _made(Path(name) / "serving"))
    for chain, bar in BARS.items():
        print(f"{chain} ({len(chains[chain])}, at most {bar}): {' → '.join(chains[chain])}")
    return int(any(len(chains[chain]) > bar for chain, bar in BARS.items()))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
