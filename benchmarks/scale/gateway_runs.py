"""Two real gateways on one real PostgreSQL, asked over HTTP while names move and gateways and engines are killed.

In: 60 tenants with names of two releases each, some tenants with limits of a minute near what they ask, some that ask in bursts at both
gateways at once. Real: PostgreSQL, gateway processes, engine processes and the wire between them, SIGKILL, API keys, quotas, rows. Not
real: the model (``twin_gateway``), whose answers name the release that was asked, and the releases, which have no files to verify.

Out: answers by a release that is not the name's, or that it had left ``LEFT`` seconds before it was asked; answers whose row is missing or
says something else; rows and counted use that differ; windows of a quota that were passed by more than what the tenant had under way, or
had ended within ``SEEN`` seconds, at the most crowded moment of the window (what another gateway cannot know). All are to be 0. Beside
them: how soon after a move each gateway took a request for the new release, asked one after another, and how far limits were passed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from twin_gateway import house_of

from support.postgresql import TEMPLATE, running_server
from support.processes import CHAT
from support.serving import House, make_release
from tailorbird import auth
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Alias, AliasTarget, RequestRow
from tailorbird.domain.identity import Tenant
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.identity import QuotaLimits, window_start
from tailorbird.domain.value import Digest
from tailorbird.processes.http_servers import free_port

HERE = Path(__file__).resolve().parent
#: Requests, names, those of a tenant that move, seconds between two kills.
SIZES = {False: (20_000, 1_200, 4, 25.0), True: (800, 120, 2, 5.0)}
TENANTS, GATEWAYS, AT_ONCE = 60, 2, 24
#: Seconds after which a release that a name has left may answer nobody who asks; what gateways need to see what others counted.
LEFT, SEEN = 2.0, 1.5
#: Tenants by what limits them: so many requests a minute, tokens a minute, bursts beyond a limit of requests.
REQUESTS, TOKENS, BURSTS = range(20, 40), range(40, 50), range(50, 60)
LIMITS = {
    "requests": QuotaLimits(requests_per_minute=40),
    "tokens": QuotaLimits(output_tokens_per_minute=300),
    "bursts": QuotaLimits(requests_per_minute=30),
}
BURST, ANSWER_TOKENS = 60, 16
SEED = 23


def say(text: str) -> None:
    """Tells progress."""
    print(f"[scale] {text}", file=sys.stderr, flush=True)


def tenant_name(number: int) -> str:
    """Of the tenant with that number."""
    return f"tenant-{number:02}"


def limited_by(number: int) -> str:
    """What limits a tenant, or nothing."""
    groups = {"requests": REQUESTS, "tokens": TOKENS, "bursts": BURSTS}
    return next((name for name, numbers in groups.items() if number in numbers), "")


@dataclass
class Move:
    """A name's release, as of a moment between ``before`` and ``after`` (seconds of this process's clock)."""

    release: Digest
    before: float
    after: float
    #: The moment before its COMMIT was sent.
    written: float = 0.0


@dataclass
class Site:
    """The record, and what is known of it: releases and moves of each name, keys of each tenant."""

    house: House
    folder: Path
    database: str
    keys: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    choices: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    moves: dict[str, list[Move]] = field(default_factory=lambda: defaultdict(list))

    def furnish(self, names: int, movable: int, limits: Sequence[QuotaLimits]) -> None:
        """Tenants with their limits, keys, releases and names."""
        now = self.house.clock.now()
        with self.house.ledger.system() as system:
            for number, each in enumerate(limits):
                system.tenants.add(Tenant(name=tenant_name(number), created_at=now, limits=each))
        for number in range(TENANTS):
            tenant, held = tenant_name(number), names // TENANTS + (number < names % TENANTS)
            key, self.keys[tenant] = auth.issue_api_key(tenant, "bench", now)
            self.names[tenant] = [f"{tenant}/name-{place}" for place in range(held)]
            with self.house.ledger.work(tenant) as work:
                work.keys.add(key)
                for place, path in enumerate(self.names[tenant]):
                    made = [make_release(tenant, 2 * place + each, TaskKind.GENERATE, now) for each in range(2 if place < movable else 1)]
                    for release in made:
                        work.releases.add(release)
                    self.choices[path] = tuple(release.digest for release in made)
                    work.aliases.put(_alias(path, (made[0].digest,), (), 1, now))
                    self.moves[path].append(Move(made[0].digest, 0.0, 0.0))

    def move(self, path: str) -> Move:
        """Gives a name its other release, which it may have had before."""
        tenant, name = path.split("/")
        before = time.monotonic()
        with self.house.ledger.work(tenant) as work:
            now = work.aliases.get(name)
            (other,) = {*self.choices[path]} - {target.release for target in now.targets}
            made = _alias(path, (other,), tuple(target.release for target in now.targets), now.version + 1, self.house.clock.now())
            work.aliases.put(made)
            written = time.monotonic()
        self.moves[path].append(moved := Move(other, before, time.monotonic(), written))
        return moved


def _alias(path: str, releases: Sequence[Digest], previous: Sequence[Digest], version: int, at: datetime) -> Alias:
    tenant, name = path.split("/")
    targets, left = (tuple(AliasTarget(release=each, weight=100) for each in some) for some in (releases, previous))
    return Alias(tenant=tenant, name=name, targets=targets, previous=left, version=version, moved_at=at, moved_by="olga")


class Gateway:
    """A gateway process with its engine; ``start`` again in the place of one that was killed."""

    def __init__(self, site: Site) -> None:
        self._site, self.port = site, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = site.folder / f"gateway-{self.port}.log"
        self.started_at = 0.0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "twin_gateway.py"), str(self._site.folder), self._site.database, str(self.port)]
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """The gateway; its engine ends with it."""
        self.process.kill()
        self.process.wait()

    def kill_engine(self) -> None:
        """The engine; the gateway starts another."""
        self.started_at = time.monotonic()
        words = self.log.read_text().replace(")", " ").split()
        with suppress(ProcessLookupError):
            os.kill([int(pid) for word, pid in pairwise(words) if word == "(pid"][-1], signal.SIGKILL)

    async def until_ready(self, client: httpx.AsyncClient, seconds: float = 900.0) -> float:
        """Until every name answers as the record says. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if (await client.get(f"{self.url}/readyz", timeout=20)).status_code == 200:
                    return time.monotonic() - self.started_at
            await asyncio.sleep(0.5)
        raise TimeoutError(f"{self.url} was not ready: {self.log.read_text()[-2000:]}")


@dataclass(frozen=True)
class Answer:
    """What one request was answered by one gateway: moments by this process's clock, ``row`` as its row is named."""

    path: str
    gateway: int
    sent: float
    ended: float
    status: int
    code: str
    row: str = ""
    release: str = ""
    said: str = ""


@dataclass
class Run:
    """Requests, moves and kills of one run, and what came of them."""

    site: Site
    gateways: list[Gateway]
    client: httpx.AsyncClient
    gap: float
    draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    answers: list[Answer] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    ready: list[float] = field(default_factory=list)
    #: Moves, and the first answer by the new release that each gateway gave to whoever asked it again and again.
    seen: list[tuple[Move, Answer]] = field(default_factory=list)
    over: bool = False

    async def play(self, asked: Sequence[str]) -> None:
        """Asks ``asked``, ``AT_ONCE`` at a time, while the rest happens."""
        disturbing = [asyncio.create_task(each) for each in (self._kill(), self._move())]
        waiting = iter(asked)

        async def work() -> None:
            for path in waiting:
                await self._ask_any(path)
                if len(self.answers) % 2000 == 0:
                    say(f"{len(self.answers)} answers")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        self.over = True
        await asyncio.gather(*disturbing)

    async def _ask_any(self, path: str) -> None:
        """As behind a balancer: the other gateway is asked where one cannot answer."""
        first = self.draw.randrange(GATEWAYS)
        for turn in range(2 * GATEWAYS):
            answer = await self._ask(path, (first + turn) % GATEWAYS)
            if answer.status not in (0, 503):
                return
            await asyncio.sleep(0.02)

    async def _ask(self, path: str, gateway: int) -> Answer:
        tenant, sent = path.partition("/")[0], time.monotonic()
        body = {"model": path, "max_tokens": ANSWER_TOKENS, "messages": [{"role": "user", "content": "where is my order"}]}
        head = {"authorization": f"Bearer {self.site.keys[tenant]}"}
        try:
            response = await self.client.post(self.gateways[gateway].url + CHAT, json=body, headers=head, timeout=60)
            said, ended = response.json(), time.monotonic()
        except (httpx.HTTPError, ValueError) as error:
            answer = Answer(path, gateway, sent, time.monotonic(), 0, type(error).__name__)
        else:
            if response.status_code == 200:
                text, release = said["choices"][0]["message"]["content"], response.headers["x-tailorbird-release"]
                answer = Answer(path, gateway, sent, ended, 200, "", said["id"], release, text.split()[0])
            else:
                answer = Answer(path, gateway, sent, ended, response.status_code, said["error"]["code"])
        self.answers.append(answer)
        return answer

    async def _kill(self) -> None:
        turn = 0
        while not await self._over_within(self.gap):
            gateway = self.gateways[turn % GATEWAYS]
            if turn // GATEWAYS % 2 == 0:
                gateway.kill_engine()
                self.kills["engine"] += 1
            else:
                gateway.kill()
                self.kills["gateway"] += 1
                gateway.start()
            await asyncio.sleep(1.0)
            self.ready.append(await gateway.until_ready(self.client))
            turn += 1

    async def _move(self) -> None:
        movable = [path for path, choices in self.site.choices.items() if len(choices) > 1]
        while not await self._over_within(self.draw.uniform(0.2, 0.6)):
            path = self.draw.choice(movable)
            moved = await asyncio.to_thread(self.site.move, path)
            if not limited_by(int(path[7:9])):
                await asyncio.gather(*(self._watch(path, moved, each) for each in range(GATEWAYS)))

    async def _watch(self, path: str, moved: Move, gateway: int) -> None:
        """Until a gateway that has been up for a while answers by the new release."""
        while not self.over and time.monotonic() < moved.after + 10:
            answer = await self._ask(path, gateway)
            if answer.status == 0 or answer.code in ("model_loading", "engine_unavailable"):
                return
            if answer.release == moved.release:
                self.seen.append((moved, answer))
                return
            await asyncio.sleep(0.01)

    async def _over_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.over and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return self.over


def asked(site: Site, requests: int) -> list[str]:
    """Names in the order in which they are asked: of tenants drawn alike, more often those that move; some tenants in bursts."""
    draw, paths = random.Random(SEED), list[str]()
    while len(paths) < requests:
        number = draw.randrange(TENANTS)
        names = site.names[tenant_name(number)]
        for _ in range(BURST if number in BURSTS and draw.random() < 0.1 else number not in BURSTS):
            movable = [path for path in names if len(site.choices[path]) > 1]
            paths.append(draw.choice(movable) if draw.random() < 0.4 else draw.choice(names))
    return paths[:requests]


def compared(quick: bool) -> dict[str, Any]:
    """The bar: everything that must not be, counted."""
    requests, names, movable, gap = SIZES[quick]
    with tempfile.TemporaryDirectory(prefix="gateways-") as folder, running_server() as server:
        database = server.url(TEMPLATE)
        site = Site(house_of(Path(folder), database), Path(folder), database)
        started = time.monotonic()
        site.furnish(names, movable, [LIMITS.get(limited_by(number), QuotaLimits()) for number in range(TENANTS)])
        say(f"{TENANTS} tenants with {names} names after {time.monotonic() - started:.0f} s")
        with served(site, GATEWAYS) as gateways:
            run, took = asyncio.run(_played(site, gateways, asked(site, requests), gap))
        return _told(run) | {"names": names, "seconds": round(took), "load": round(os.getloadavg()[0], 1)}


@contextmanager
def served(site: Site, count: int) -> Iterator[list[Gateway]]:
    """So many gateways while the block runs."""
    gateways = [Gateway(site) for _ in range(count)]
    try:
        yield gateways
    finally:
        for gateway in gateways:
            gateway.process.terminate()
        for gateway in gateways:
            with suppress(subprocess.TimeoutExpired):
                gateway.process.wait(60)
            gateway.process.kill()


async def _played(site: Site, gateways: list[Gateway], paths: Sequence[str], gap: float) -> tuple[Run, float]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        ready = [await gateway.until_ready(client) for gateway in gateways]
        say(f"gateways are ready after {', '.join(f'{each:.0f} s' for each in ready)}")
        run, started = Run(site, gateways, client, gap), time.monotonic()
        await run.play(paths)
        return run, time.monotonic() - started


def _told(run: Run) -> dict[str, Any]:
    given = [answer for answer in run.answers if answer.status == 200]
    rows = {tenant: _rows(run.site, tenant) for tenant in run.site.keys}
    wrong = [answer for answer in given if not _is_right(run.site, answer)]
    lost = [answer for answer in given if not _is_recorded(answer, rows[answer.path.partition("/")[0]])]
    differing = [tenant for tenant in rows if not _counts_agree(run.site, tenant, rows[tenant])]
    passed = [one for number in range(TENANTS) if limited_by(number) for one in _windows(number, rows[tenant_name(number)], run.answers)]
    beyond = [one for one in passed if one["passed"] > one["unseen"]]
    faults = {"wrong_release": len(wrong), "rows_lost": len(lost), "counts_differ": len(differing), "quotas_beyond_bound": len(beyond)}
    over = sorted((one for one in passed if one["passed"] > 0), key=lambda one: one["passed"] / one["limit"])
    offset = datetime.now(UTC).timestamp() - time.monotonic()
    found = [(moved, rows[answer.path.partition("/")[0]].get(answer.row)) for moved, answer in run.seen]
    seen = sorted(max(0.0, row.at.timestamp() - offset - moved.after) for moved, row in found if row)
    return {
        "value": sum(faults.values()), "bar": 0, "unit": "faults", "less_is_better": True, "holds": not sum(faults.values()),
        "faults": faults, "requests": len(run.answers), "answered": len(given), "by_status": _statuses(run.answers),
        "stale_most_seconds": round(max((_staleness(run.site, answer) for answer in given), default=0.0), 3),
        "moves": sum(len(moves) - 1 for moves in run.site.moves.values()),
        "seen_ms": {f"p{cut}": round(1000 * seen[min(len(seen) - 1, len(seen) * cut // 100)]) for cut in (50, 95, 99, 100)} if seen else {},
        "seen_count": len(seen), "kills": dict(run.kills), "ready_seconds": [round(each, 1) for each in run.ready],
        "windows": len(passed), "windows_passed": len(over), "passed_most": over[-1] if over else None,
        "latency_ms": _latencies(given), "first_faults": [str(each) for each in (*wrong[:3], *lost[:3], *differing[:3], *beyond[:3])],
    }  # fmt: skip


def _rows(site: Site, tenant: str) -> dict[str, RequestRow]:
    with site.house.ledger.work(tenant, write=False) as work:
        return {row.id: row for row in work.requests.latest(10**6)}


def _staleness(site: Site, answer: Answer) -> float:
    """Seconds before it was asked at which the name had left the release for the last time; infinite where it never had it."""
    moves, best = site.moves[answer.path], float("inf")
    for place, move in enumerate(moves):
        if move.release == answer.release and move.before <= answer.ended:
            left = moves[place + 1].after if place + 1 < len(moves) else float("inf")
            best = min(best, max(0.0, answer.sent - left))
    return best


def _is_right(site: Site, answer: Answer) -> bool:
    return answer.said == short(answer.release) and _staleness(site, answer) <= LEFT


def _is_recorded(answer: Answer, rows: dict[str, RequestRow]) -> bool:
    row = rows.get(answer.row)
    return row is not None and (row.status, row.alias, row.release) == (200, answer.path, answer.release)


def _counts_agree(site: Site, tenant: str, rows: dict[str, RequestRow]) -> bool:
    """What quotas count, of all gateways that lived, is what the rows say."""
    counted, months = [row for row in rows.values() if row.release], {window_start("month", row.at) for row in rows.values()}
    with site.house.ledger.work(tenant, write=False) as work:
        used = [work.usage.used("month", month) for month in months]
    told = (len(counted), sum(row.prompt_tokens for row in counted), sum(row.completion_tokens for row in counted))
    return told == tuple(sum(getattr(one, name) for one in used) for name in ("requests", "input_tokens", "output_tokens"))


def _windows(number: int, rows: dict[str, RequestRow], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Each minute of a tenant with a limit: what it used beyond, and what gateways could not know of each other at worst."""
    kind, tenant = limited_by(number), tenant_name(number)
    limit = next(iter(LIMITS[kind].of("minute").values()))
    used: dict[datetime, int] = defaultdict(int)
    for row in rows.values():
        if row.release:
            used[window_start("minute", row.at)] += row.completion_tokens if kind == "tokens" else 1
    offset = datetime.now(UTC).timestamp() - time.monotonic()
    own = [answer for answer in answers if answer.path.startswith(f"{tenant}/") and answer.status in (0, 200)]
    told = []
    for start, amount in used.items():
        begin = start.timestamp() - offset
        inside = [answer for answer in own if begin - 1 <= answer.sent <= begin + timedelta(minutes=1).total_seconds()]
        unseen = _most_at_once([(answer.sent, answer.ended + SEEN) for answer in inside]) * (ANSWER_TOKENS if kind == "tokens" else 1)
        told.append({"tenant": tenant, "kind": kind, "limit": limit, "used": amount, "passed": amount - limit, "unseen": unseen})
    return told


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    edges, most, now = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]), 0, 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _statuses(answers: Sequence[Answer]) -> dict[str, int]:
    return dict(Counter(f"{answer.status} {answer.code}".strip() for answer in answers).most_common())


def _latencies(given: Sequence[Answer]) -> dict[str, int]:
    took = sorted(answer.ended - answer.sent for answer in given)
    return {f"p{cut}": round(1000 * took[len(took) * cut // 100]) for cut in (50, 95, 99)} if took else {}
