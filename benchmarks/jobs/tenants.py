"""Mixed requests of many tenants over HTTP, none answered by another's release; and the time until a ninth tenant is answered.

In: the shops of examples/sales_assistant (synthetic, written for this project), each with an adapter of its own on one base. Every shop
is first asked alone; then all are asked at once, so that the engine mixes their adapters in its batches. Instruction, question and base
are the same for all, so that only a shop's adapter opens an answer with the shop's voice; answers are cut after the tokens that hold it.
An answer is crossed when the header names another release than the asker's, when it begins with another shop's voice, or when it is what
another shop answers to the same question and the asker's does not. Out: answers that crossed; seconds from a ninth tenant's rows to its
first answer, while the others are served.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "sales_assistant"
sys.path[:0] = [str(EXAMPLE), str(EXAMPLE.parent)]
from climb import WORK, say  # noqa: E402
from make_rows import ASKING, MOODS, NEEDS, NINTH, ROWS, SHOPS, Shop, write  # noqa: E402
from vendor import NAME, VENDOR, Vendor, add_ninth  # noqa: E402

from tailorbird import settings  # noqa: E402

BARS = {
    "tenants_crossed_answers": (0.0, 0.0, "answers", True),
    "tenants_ninth_answer_seconds": (600.0, 300.0, "s", True),
}
#: Answers are cut after ``TOKENS``: the voice of every shop takes fewer.
SEED, QUESTIONS, TOKENS = 20, 12, 4
#: Requests under way at once: of all tenants, and of one that is asked alone.
AT_ONCE, ALONE = 32, 8
#: Tenants, mixed requests, rows a tenant, and passes over them.
SIZES = {False: (8, 10_000, 0, 0), True: (2, 300, 120, 2)}


@dataclass(frozen=True)
class Mixed:
    """What one request was answered."""

    tenant: str
    question: str
    text: str
    release: str
    seconds: float


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The values of the bars, and what stands beside them."""
    count, requests, rows, epochs = SIZES[quick]
    shops = dict(list(SHOPS.items())[:count])
    vendor = _vendor("tenants_quick" if quick else "tenants", shops, rows, epochs)
    vendor.run("adapt", str(vendor.objective), "--tenants", ",".join(shops))
    releases = {}
    for tenant in shops:
        vendor.release(tenant)
        releases[tenant] = vendor.json("release", "list", "--as", f"{tenant}/author")[0]["digest"]
    keys = {tenant: vendor.run("key", "create", "bench", "--as", f"{tenant}/admin", show=False).strip() for tenant in shops}
    with vendor.serving() as url:
        alone = {}
        for tenant in shops:
            asked = [(tenant, question) for question in _questions()]
            alone |= {(tenant, one.question): one.text for one in asyncio.run(_ask(url, keys, asked, ALONE))}
        say(f"{len(alone)} questions asked of one tenant after another")
        drawn = random.Random(SEED)
        mixed = [(drawn.choice(list(shops)), drawn.choice(_questions())) for _ in range(requests)]
        started = time.perf_counter()
        answers = asyncio.run(_ask(url, keys, mixed, AT_ONCE))
        seconds = time.perf_counter() - started
        say(f"{len(answers)} mixed requests in {seconds:.0f} s")
        ninth = add_ninth(vendor, url)
    openings = {tenant: f"{shop.voice} {shop.line}" for tenant, shop in shops.items()}
    crossed = [one for one in answers if one.release != releases[one.tenant] or _is_of_another(one, openings, alone)]
    detail = {
        "tenants": count,
        "requests": len(answers),
        "at_once": AT_ONCE,
        "by_tenant": dict(sorted(Counter(one.tenant for one in answers).items())),
        "other_release": sum(one.release != releases[one.tenant] for one in answers),
        "other_voice": sum(_is_of_another(one, openings, alone) for one in answers),
        "own_voice": round(sum(_opens(one.text, openings[one.tenant]) for one in answers) / len(answers), 4),
        "as_when_asked_alone": round(sum(one.text == alone[one.tenant, one.question] for one in answers) / len(answers), 4),
        "questions_with_one_answer_for_two_tenants": _ambiguous(alone),
        "requests_per_second": round(len(answers) / seconds, 2),
        "latency_ms": {name: round(1000 * value) for name, value in _quantiles([one.seconds for one in answers]).items()},
    }
    return {"tenants_crossed_answers": len(crossed), "tenants_ninth_answer_seconds": ninth}, detail


def _vendor(name: str, shops: dict[str, Shop], rows: int, epochs: int) -> Vendor:
    """The vendor's workspace, made once; the ninth tenant of an earlier run is removed, so that its time is measured anew."""
    workspace, job = WORK / name, WORK / f"{name}-job"
    job.mkdir(parents=True, exist_ok=True)
    vendor = Vendor(workspace, job, rows or ROWS)
    if not (workspace / "settings.yaml").is_file():
        workspace.mkdir()
        models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
        settings.save_settings(workspace, {"tenant": VENDOR, "model_cache": str(models)})
    vendor.run("init", "--tenant", VENDOR, "--workspace", str(workspace), show=False)
    objective = yaml.safe_load((EXAMPLE / "objective.yaml").read_text(encoding="utf-8"))
    if rows:
        write(job / "rows", shops, rows)
        objective |= {"lora": {"epochs": epochs}, "kpis": [{"metric": "token_f1", "target": 0.05}]}
    else:
        shutil.copytree(EXAMPLE / "rows", job / "rows", dirs_exist_ok=True)
    vendor.objective.write_text(yaml.safe_dump(objective, sort_keys=False), encoding="utf-8")
    vendor.add(list(shops))
    for tenant in NINTH:
        if tenant in {each["tenant"]["name"] for each in vendor.json("tenant", "list")}:
            vendor.run("tenant", "remove", tenant, "--yes")
    return vendor


def _questions() -> list[str]:
    """Questions that name no product and no trade, so that every shop can be asked them."""
    drawn = random.Random(SEED)
    needs = [(need, mood) for need in NEEDS for mood in MOODS]
    said = []
    for number in range(QUESTIONS):
        need, mood = needs[number % len(needs)]
        wanted = drawn.choice(NEEDS[need])
        asking = drawn.choice(ASKING).format(thing="model", things="models", need=wanted, Need=wanted[:1].upper() + wanted[1:])
        said.append(f"{asking} {drawn.choice(MOODS[mood])}")
    return said


async def _ask(url: str, keys: dict[str, str], asked: Sequence[tuple[str, str]], at_once: int) -> list[Mixed]:
    """Every (tenant, question), ``at_once`` under way at a time."""
    waiting, found = iter(asked), list[Mixed]()
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=at_once)) as client:

        async def work() -> None:
            for tenant, question in waiting:
                found.append(await _answer(client, keys[tenant], tenant, question))
                if len(found) % 500 == 0:
                    say(f"  {len(found)} of {len(asked)} answered")

        await asyncio.gather(*(work() for _ in range(at_once)))
    return found


async def _answer(client: httpx.AsyncClient, key: str, tenant: str, question: str) -> Mixed:
    body = {"model": f"{tenant}/{NAME}", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": TOKENS}
    started = time.perf_counter()
    response = await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    seconds = time.perf_counter() - started
    response.raise_for_status()
    text = response.json()["choices"][0]["message"]["content"]
    return Mixed(tenant, question, text, response.headers["x-tailorbird-release"], seconds)


def _opens(text: str, opening: str) -> bool:
    """True when an answer, which may be cut short, begins as ``opening`` does."""
    return bool(text.strip()) and (text.startswith(opening) or opening.startswith(text.strip()))


def _is_of_another(answer: Mixed, openings: dict[str, str], alone: dict[tuple[str, str], str]) -> bool:
    """True for an answer in another shop's voice, or that is another's to the same question and not the asker's own."""
    others = [tenant for tenant in openings if tenant != answer.tenant]
    if any(_opens(answer.text, openings[tenant]) for tenant in others):
        return True
    own = alone[answer.tenant, answer.question]
    return answer.text != own and any(answer.text == alone[tenant, answer.question] for tenant in others)


def _ambiguous(alone: dict[tuple[str, str], str]) -> int:
    """Questions to which two tenants give the same answer: they could not tell whose it is."""
    texts: dict[str, list[str]] = {}
    for (_, question), text in alone.items():
        texts.setdefault(question, []).append(text)
    return sum(len(set(found)) < len(found) for found in texts.values())


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
