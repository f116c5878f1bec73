"""The vendor's side of the example: commands in many tenants, questions with each tenant's key, and the story that they make."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from openai import NotFoundError, OpenAIError, RateLimitError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from make_rows import NINTH, ROWS, write
from story import Client, Story, heading, shown

VENDOR, NAME = "vendor", "sales-assistant"
#: One question that every shop answers in its own way.
QUESTION = "Hello, which one would you suggest? I am a complete beginner. Could I see it before I decide?"
#: What a release in this state needs next.
NEXT = {
    "gated": ("release", "approve", "{digest}", "--as", "{tenant}/approver", "--reason", "evidence read"),
    "approved": ("release", "stage", "{digest}", "--as", "{tenant}/operator"),
    "staged": ("promote", "{digest}", "--as", "{tenant}/operator"),
}


class Vendor(Story):
    """The command line for many tenants: each command says in which one, and as whom."""

    def __init__(self, workspace: Path, job: Path, rows: int = ROWS) -> None:
        """``job`` is the folder of the objective and of ``rows/``; ``rows`` how many the ninth shop brings."""
        super().__init__(workspace)
        self.job, self.rows = job, rows
        self.objective = job / "objective.yaml"

    def add(self, tenants: Sequence[str]) -> None:
        """Adds the tenants that are not here yet; each gets people with keys of their own."""
        known = {each["tenant"]["name"] for each in self.json("tenant", "list")}
        for tenant in tenants:
            if tenant not in known:
                self.run("tenant", "add", tenant)

    def release(self, tenant: str) -> None:
        """Approves, stages and promotes the tenant's newest release, by three people of the tenant."""
        while (newest := self.json("release", "list", "--as", f"{tenant}/author")[0])["state"] in NEXT:
            digest = newest["digest"].removeprefix("sha256:")[:12]
            self.run(*(part.format(tenant=tenant, digest=digest) for part in NEXT[newest["state"]]))

    def client(self, tenant: str, url: str) -> Client:
        """A program of the tenant, with an API key of its own."""
        return Client(url, self.run("key", "create", "shop", "--as", f"{tenant}/admin", show=False).strip())

    def wait_for(self, client: Client, tenant: str) -> None:
        """Waits until the gateway answers the tenant: it has read the move of the alias, and its release is loaded."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                client.ask(f"{tenant}/{NAME}", QUESTION)
                return
            except OpenAIError:
                time.sleep(0.2)
        sys.exit(f"the example stops here: {tenant} is not answered")


def ask_each(clients: dict[str, Client]) -> None:
    """The same question to every tenant's assistant, with the tenant's own key."""
    print(f"Q: {QUESTION}")
    for tenant, client in clients.items():
        try:
            answer = client.ask(f"{tenant}/{NAME}", QUESTION, temperature=0)
            print(f"  {tenant:8} {answer.text}  (release {answer.release.removeprefix('sha256:')[:12]})", flush=True)
        except NotFoundError as error:
            print(f"  {tenant:8} 404 {error.body['code'] if isinstance(error.body, dict) else ''}", flush=True)


def show_borders(clients: dict[str, Client]) -> None:
    """A key opens its own tenant alone."""
    heading("a key opens nothing of another tenant")
    mine, theirs = list(clients)[:2]
    try:
        clients[mine].ask(f"{theirs}/{NAME}", QUESTION)
    except OpenAIError as error:
        print(f"  the key of {mine} asks for {theirs}/{NAME}: {type(error).__name__}: {_message(error)}")


def show_limit(vendor: Vendor, clients: dict[str, Client], tenant: str, most: int = 3) -> None:
    """The tenant's quota is reached; its neighbours do not notice."""
    heading(f"a limit for {tenant}: {most} requests a minute")
    vendor.run("tenant", "limit", tenant, "--limit", f"requests_per_minute={most}")
    time.sleep(1.5)  # gateways know within a second
    # Limits are counted by the minute of the clock, with what was asked in it before: requests must not stand on both sides of its end.
    if (gone := time.time() % 60) > 30:
        time.sleep(60 - gone)
    for number in range(1, 2 * most + 2):
        try:
            clients[tenant].ask(f"{tenant}/{NAME}", QUESTION)
            print(f"  request {number}: answered")
        except RateLimitError as error:
            print(f"  request {number}: {error.status_code} {_message(error)}")
            break
    neighbour = next(each for each in clients if each != tenant)
    print(f"  meanwhile {neighbour}: {clients[neighbour].ask(f'{neighbour}/{NAME}', QUESTION).text}")
    vendor.run("tenant", "limit", tenant, "--limit", "requests_per_minute=none")


def roll_back(vendor: Vendor, clients: dict[str, Client], tenant: str) -> None:
    """One tenant's release is taken back; the others answer on."""
    heading(f"the release of {tenant} is taken back, and no other")
    vendor.run("rollback", f"{tenant}/{NAME}", "--withdraw", "--as", f"{tenant}/operator", "--reason", "prices have changed")
    time.sleep(1)
    ask_each(clients)


def add_ninth(vendor: Vendor, url: str) -> float:
    """A tenant that joins while the others are served: from its rows to its first answer, in seconds."""
    (tenant,) = NINTH
    heading(f"a ninth shop joins while the others are served: {tenant}")
    started = time.monotonic()
    write(vendor.job / "rows", NINTH, vendor.rows)
    vendor.add([tenant])
    vendor.run("adapt", shown(vendor.objective), "--tenants", tenant)
    vendor.release(tenant)
    client = vendor.client(tenant, url)
    vendor.wait_for(client, tenant)
    seconds = time.monotonic() - started
    ask_each({tenant: client})
    print(f"  {seconds:.0f} s after its rows arrived", flush=True)
    return seconds


def _message(error: OpenAIError) -> str:
    body = getattr(error, "body", None)
    return f"{body['code']}: {body['message']}" if isinstance(body, dict) and "code" in body else str(error)


def tell(vendor: Vendor, tenants: Sequence[str], *, ninth: bool = True) -> None:
    """The whole story, for these tenants and a ninth."""
    heading("a workspace of the vendor, and a tenant for each shop")
    vendor.run("init", "--tenant", VENDOR, "--workspace", shown(vendor.workspace))
    vendor.add(tenants)
    heading("one objective, adapted for all of them")
    vendor.run("adapt", shown(vendor.objective), "--tenants", ",".join(tenants))
    heading("each shop's own people approve, stage and promote its release")
    for tenant in tenants:
        vendor.release(tenant)
    with vendor.serving() as url:
        heading("each shop asks with its own key")
        clients = {tenant: vendor.client(tenant, url) for tenant in tenants}
        ask_each(clients)
        show_borders(clients)
        show_limit(vendor, clients, tenants[0])
        roll_back(vendor, clients, tenants[-1])
        if ninth:
            add_ninth(vendor, url)
        for client in clients.values():
            client.close()
    heading("who uses how much")
    vendor.run("tenant", "list")
