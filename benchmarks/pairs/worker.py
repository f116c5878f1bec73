"""One side of a pair: ``worker.py FAMILY INPUTS FOLDER``, run with the sources of the commit that this file belongs to.

It prints ``ready``, and for each line of stdin one JSON object: ``rate`` (work a second, more is better) of one round, and for trainings
``memory_gib``, the peak above the loaded model so far. INPUTS is a folder that both sides share: ``base`` (a model), ``adapters`` (eight of
it), ``messages.csv``, ``rows.csv``, ``labels.json``. FOLDER is the side's own.

A change of what is imported here changes this file in the same commit: each side is measured by the worker of its own commit.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Round = Callable[[], dict[str, float]]
GIB = 2**30
_OUT = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)


def say(line: str) -> None:
    """To whoever compares; what libraries print goes to stderr."""
    _OUT.write(line + "\n")


def answer(rounds: Round) -> None:
    """Rounds for as long as they are asked for."""
    say("ready")
    while sys.stdin.readline():
        say(json.dumps(rounds()))


# Training: the loop itself, held before each step.

INSTRUCTION = "Classify the customer message into one intent."
BATCH, STEPS, HELD_OUT, RANK = 16, 500, 16, 16


def training(inputs: Path, folder: Path, method: str, *, list_labels: bool) -> None:
    """One round is one optimiser step of 16 rows; the rate is tokens a second."""
    import torch

    from tailorbird.domain.plan import LoraSettings, TrainingSettings
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.domain.run import TrainingProgress
    from tailorbird.ports.trainer import Example, TrainingJob
    from tailorbird.training import open_trainer
    from tailorbird.training.network import Network

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with (inputs / "messages.csv").open(encoding="utf-8", newline="") as file:
        rows = [Example(text=row["text"], target=row["category"]) for row in csv.DictReader(file)]
    labels = tuple(sorted({row.target for row in rows}))
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    settings = TrainingSettings(
        method=method,
        lora=None if method == "full" else LoraSettings(rank=RANK, alpha=2 * RANK, targets=targets),
        learning_rate=1e-4 if method == "full" else 1e-3,
        epochs=1,
        batch_size=BATCH,
        token_budget=4096,
        max_length=2048,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="bf16",
        seed=1,
    )
    digest = "sha256:" + "0" * 64
    job = TrainingJob(
        base=(inputs / "base").resolve(),
        base_digest=digest,
        snapshot=digest,
        settings=settings,
        prompt=PromptSpec(instruction=INSTRUCTION, labels=labels, list_labels=list_labels),
        train=tuple(rows[: BATCH * STEPS]),
        held_out=tuple(rows[-HELD_OUT:]),
        workspace=folder,
    )
    loaded, make = [0.0], Network.__init__

    def noted(network: Network, *what: Any, **more: Any) -> None:
        make(network, *what, **more)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        loaded[0] = _status("VmRSS")

    Network.__init__ = noted  # type: ignore[method-assign]

    def hear(line: TrainingProgress) -> None:
        if line.step:
            memory = _status("VmHWM") - loaded[0]
            say(json.dumps({"rate": line.tokens_per_second, "memory_gib": memory}))
        else:
            say("ready")
        if not sys.stdin.readline():
            os._exit(0)

    open_trainer().train(job, hear)


def _status(field: str) -> float:
    """GiB of this process, of proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith(field + ":"))


# Serving: the engine in this process, without HTTP.

ANSWERS, TOKENS = 16, 32
WRITE = "You work for a bank. Write a long, friendly reply to the customer's message."


def serving(inputs: Path, at_once: int, adapters: int) -> None:
    """One round is 16 answers of 32 tokens (4 where they come one at a time); the rate is tokens a second."""
    from tailorbird.domain.deployment import Servable
    from tailorbird.domain.objective import TaskKind
    from tailorbird.domain.prompt import Message, PromptSpec, Sampling
    from tailorbird.inference import open_engine

    with (inputs / "messages.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    engine, names = open_engine("auto"), []
    for number in range(max(1, adapters)):
        names.append(f"sha256:{number:064x}")
        adapter = str(inputs / "adapters" / str(number)) if adapters else None
        base = str((inputs / "base").resolve())
        prompt = PromptSpec(instruction="", labels=())
        named = {"id": names[-1], "tenant": "pairs", "task": TaskKind.GENERATE, "base": base}
        engine.load(Servable(**named, adapter=adapter, weights=None, prompt=prompt))
    answers, count = ANSWERS if at_once > 1 else 4, [0]

    def ask(number: int) -> int:
        prompt = [Message(role="system", content=WRITE), Message(role="user", content=texts[number % len(texts)])]
        (given,) = engine.generate(names[number % len(names)], [prompt], Sampling(max_tokens=TOKENS, temperature=0.0))
        return given.completion_tokens

    def rounds() -> dict[str, float]:
        started = time.perf_counter()
        tokens = sum(clients.map(ask, range(count[0], count[0] + answers)))
        count[0] += answers
        return {"rate": tokens / (time.perf_counter() - started)}

    with ThreadPoolExecutor(at_once) as clients:
        answer(rounds)


# Curation: from the file to the snapshot.


def curation(inputs: Path, folder: Path) -> None:
    """One round reads, compares, splits and freezes all rows; the rate is rows a second."""
    from itertools import count

    from tailorbird.data import SnapshotRequest, build_snapshot
    from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
    from tailorbird.ledger.artifacts import open_artifacts

    source = DataSource(path="rows.csv", source=DataOrigin(origin="a benchmark", license="CC-BY-4.0"))
    objective = Objective(
        name="pairs",
        tenant="pairs",
        business=Business(goal="g", owner="o", risk=RiskTier.MINIMAL),
        task=Task(kind=TaskKind.CLASSIFY, labels="one", instruction="Classify."),
        data=(source,),
        kpis=(Kpi(metric="accuracy", target=0.5),),
    )
    numbers = count()

    def rounds() -> dict[str, float]:
        place = folder / f"artifacts-{next(numbers)}"
        store = open_artifacts(str(place), place / "cache")
        started = time.perf_counter()
        built = build_snapshot(SnapshotRequest(objective, inputs, store, {}, lambda _text: None))
        return {"rate": len(built.rows) / (time.perf_counter() - started)}

    answer(rounds)


# Request cost: a floor's release as a user serves it.

REQUESTS = 300
OBJECTIVE = """name: desk
tenant: acme
business: {goal: Route messages., owner: support, risk: minimal}
task: {kind: classify, instruction: Classify the message.}
data:
  - {path: rows.csv, source: {origin: a benchmark, license: CC-BY-4.0}}
base_model: BASE
kpis:
  - {metric: accuracy, target: 0.6, because: it is easily reached}
ladder: [floor]
"""


def request_cost(inputs: Path, folder: Path) -> None:
    """One round is 300 requests on one connection; the rate is requests a second of processor time, of the gateway and its engine."""
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(600):
            words = " ".join(f"word{number * factor % 997}" for factor in (31, 577, 701, 409, 53, 89))
            writer.writerow([f"{words} {('refund money', 'parcel courier')[number % 2]}", ("refund", "delivery")[number % 2]])
    (folder / "objective.yaml").write_text(OBJECTIVE.replace("BASE", str((inputs / "base").resolve())), encoding="utf-8")
    _tailorbird(folder, "init", "--tenant", "acme")
    _tailorbird(folder, "adapt", "objective.yaml", "--json")
    (release,) = json.loads(_tailorbird(folder, "release", "list", "--json"))
    for verb in (("release", "approve"), ("release", "stage"), ("promote",)):
        _tailorbird(folder, *verb, release["digest"], *(("--reason", "measured") if "approve" in verb else ()))
    secret = json.loads(_tailorbird(folder, "key", "create", "pairs", "--json"))["secret"]
    port = _free_port()
    with (folder / "gateway.log").open("w") as log:
        server = subprocess.Popen(_command("serve", "--port", str(port)), cwd=folder, stderr=log, stdout=log)
    head = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    body = json.dumps({"model": "acme/desk", "messages": [{"role": "user", "content": "word31 word577 where is my parcel"}]})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask() -> int:
        connection.request("POST", "/v1/chat/completions", body, head)
        response = connection.getresponse()
        response.read()
        return response.status

    _answers(ask, connection)

    def rounds() -> dict[str, float]:
        connection.close()  # the gateway ends a connection that was idle for the other side's preparation
        before = _processor_seconds(server.pid)
        failed = sum(ask() != http.HTTPStatus.OK for _ in range(REQUESTS))
        if failed:
            raise SystemExit(f"{failed} of {REQUESTS} requests failed")
        return {"rate": REQUESTS / (_processor_seconds(server.pid) - before)}

    try:
        answer(rounds)
    finally:
        server.terminate()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from tailorbird.cli.main import main; main()", *words]


def _tailorbird(folder: Path, *words: str) -> str:
    done = subprocess.run(_command(*words), cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(ask: Callable[[], int], connection: http.client.HTTPConnection) -> None:
    """Waits until the gateway and its engine answer."""
    patience = time.monotonic() + 120
    while True:
        try:
            if ask() == http.HTTPStatus.OK:
                return
        except OSError:
            connection.close()
        if time.monotonic() > patience:
            raise SystemExit("the release does not answer")
        time.sleep(0.2)


def _processor_seconds(parent: int) -> float:
    """Of a process and all that it started, of proc(5)."""
    spent, ticks, waiting = 0, os.sysconf("SC_CLK_TCK"), [parent]
    while waiting:
        pid = waiting.pop()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
        for task in Path(f"/proc/{pid}/task").iterdir():
            waiting += map(int, (task / "children").read_text(encoding="ascii").split())
    return spent / ticks


FAMILIES: dict[str, Callable[[Path, Path], None]] = {
    "lora_short": lambda inputs, folder: training(inputs, folder, "lora", list_labels=False),
    "lora_long": lambda inputs, folder: training(inputs, folder, "lora", list_labels=True),
    "full": lambda inputs, folder: training(inputs, folder, "full", list_labels=False),
    "sixteen_at_a_time": lambda inputs, _folder: serving(inputs, 16, 0),
    "one_at_a_time": lambda inputs, _folder: serving(inputs, 1, 0),
    "eight_adapters": lambda inputs, _folder: serving(inputs, 16, 8),
    "curation": curation,
    "request_cost": request_cost,
}


if __name__ == "__main__":
    os.dup2(2, 1)
    FAMILIES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
