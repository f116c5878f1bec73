"""The whole story on the support desk example: adapt, approve, serve, ask, explain, roll back, audit.

Run it with ``make demo``. It drives the ``tailorbird`` command line as a person would, and prints every command. Run
again, it goes on from the state it finds: finished steps are not done twice.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from openai import NotFoundError, OpenAI

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parent.parent / ".demo"
OBJECTIVE = Path(os.path.relpath(HERE / "objective.yaml"))
ALIAS = "acme/support-desk"
QUESTIONS = [
    "I did get the refund, but the tent never came.",
    "I got the tent, but the refund never came.",
]
#: What a release in this state needs next: the command, and why.
NEXT = {
    "gated": (
        ("release", "approve", "{}", "--as", "approver", "--reason", "evidence read"),
        "a second person approves it, with their own key",
    ),
    "approved": (("release", "stage", "{}", "--as", "operator"), "an operator stages it"),
    "staged": (("promote", "{}", "--as", "operator"), "and puts it before users"),
}


def heading(text: str) -> None:
    print(f"\n━━ {text}", flush=True)


def environment() -> dict[str, str]:
    return os.environ | {"TAILORBIRD_WORKSPACE": str(WORKSPACE), "COLUMNS": os.environ.get("COLUMNS", "120")}


def start(*arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tailorbird.cli.main", *arguments], env=environment(), stdout=stdout, text=True)


def run(*arguments: str, show: bool = True) -> str:
    """Runs one tailorbird command; its progress goes to stderr as it comes, its stdout is printed and returned."""
    if show:
        print(f"$ tailorbird {shlex.join(arguments)}", flush=True)
    process = start(*arguments, stdout=subprocess.PIPE)
    output = process.communicate()[0]
    if show:
        print(output, end="", flush=True)
    if process.returncode != 0:
        sys.exit(f"the demo stops here: tailorbird {arguments[0]} ended with status {process.returncode}")
    return output


def newest_release() -> dict[str, str] | None:
    releases = json.loads(run("release", "list", "--json", show=False))
    return releases[0] if releases else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def serve(port: int) -> subprocess.Popen[str]:
    """Starts the gateway (which starts the engine) and waits until it is ready."""
    print(f"$ tailorbird serve --port {port}", flush=True)
    server = start("serve", "--port", str(port))
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        if is_ready(port):
            return server
        time.sleep(0.3)
    server.terminate()
    sys.exit("the demo stops here: the server ended, or was not ready within 3 minutes")


def ask(client: OpenAI, question: str) -> str:
    """Asks one question with the stock client, shows answer and release, and returns the request id."""
    raw = client.chat.completions.with_raw_response.create(model=ALIAS, messages=[{"role": "user", "content": question}])
    print(f"  Q: {question}\n  A: {raw.parse().choices[0].message.content}")
    print(f"     answered by release {raw.headers['x-tailorbird-release']}", flush=True)
    return raw.headers["x-tailorbird-request-id"]


def seconds_until_withdrawn(client: OpenAI) -> float:
    started = time.monotonic()
    while time.monotonic() - started < 10:
        try:
            client.chat.completions.create(model=ALIAS, messages=[{"role": "user", "content": QUESTIONS[0]}])
        except NotFoundError:
            return time.monotonic() - started
    sys.exit("the demo stops here: the alias still answers 10 s after the rollback")


def put_into_production(digest: str) -> None:
    """Approves, stages and promotes a release, from whatever state it is in."""
    while (release := newest_release()) and release["digest"] == digest and release["state"] in NEXT:
        arguments, title = NEXT[release["state"]]
        heading(title)
        run(*(argument.format(digest.removeprefix("sha256:")[:12]) for argument in arguments))


def serve_and_take_back() -> None:
    """Serves the release, asks two questions, explains an answer, and rolls back under the running server."""
    heading("serve it, and ask with the stock openai client")
    port = free_port()
    secret = run("key", "create", "demo", show=False).strip()
    server = serve(port)
    try:
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=secret, max_retries=0)
        request = [ask(client, question) for question in QUESTIONS][-1]
        heading("what stands behind that answer?")
        run("explain", request)
        heading("take it back, while the server runs")
        run("rollback", ALIAS, "--as", "operator", "--reason", "demo")
        print(f"the alias stopped answering {seconds_until_withdrawn(client):.2f} s after the command ended", flush=True)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def main() -> None:
    started = time.monotonic()
    heading("a workspace, a tenant, and people with keys of their own")
    run("init", "--tenant", "acme", "--workspace", os.path.relpath(WORKSPACE))
    heading("climb the ladder")
    run("adapt", str(OBJECTIVE))
    release = newest_release()
    if release is None:
        sys.exit("the climb ended without a release, for the reason above")
    put_into_production(release["digest"])
    if (newest_release() or {}).get("state") == "production":
        serve_and_take_back()
    else:
        print("\nthis release was rolled back by an earlier run, and a retired release never returns; `make demo-clean` starts anew")
    heading("is the record whole?")
    run("audit", "checkpoint", "--as", "admin")
    run("audit", "verify")
    print(f"\nThe demo took {time.monotonic() - started:.0f} s. Where to go next:")
    print("  · your own data: copy examples/support_desk/objective.yaml, name your file, and run `tailorbird plan` on it")
    print("  · docs/tutorial.md tells the same story step by step; docs/concepts.md explains the words")
    print("  · the demo's record stays in .demo: try `tailorbird --help`, and `tailorbird audit log -w .demo`")


if __name__ == "__main__":
    main()
