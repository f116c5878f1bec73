"""The whole story on the support desk example: adapt, approve, serve, ask, explain, roll back, audit.

Run it with ``make demo``. It drives the ``tailorbird`` command line as a person would, and prints every command. Run
again, it goes on from the state it finds: finished steps are not done twice.
"""

import sys
import time
from pathlib import Path

from openai import NotFoundError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from story import Client, Story, heading, shown

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parent.parent / ".demo"
ALIAS = "acme/support-desk"
QUESTIONS = [
    "I did get the refund, but the tent never came.",
    "I got the tent, but the refund never came.",
]


def ask(client: Client, question: str) -> str:
    """Asks one question with the stock client, shows answer and release, and returns the request id."""
    answer = client.ask(ALIAS, question)
    print(f"  Q: {question}\n  A: {answer.text}\n     answered by release {answer.release}", flush=True)
    return answer.request


def seconds_until_withdrawn(client: Client) -> float:
    started = time.monotonic()
    while time.monotonic() - started < 10:
        try:
            client.ask(ALIAS, QUESTIONS[0])
        except NotFoundError:
            return time.monotonic() - started
    sys.exit("the demo stops here: the alias still answers 10 s after the rollback")


def serve_and_take_back(story: Story) -> None:
    """Serves the release, asks two questions, explains an answer, and rolls back under the running server."""
    heading("serve it, and ask with the stock openai client")
    secret = story.key("demo")
    with story.serving() as url:
        client = Client(url, secret)
        request = [ask(client, question) for question in QUESTIONS][-1]
        heading("what stands behind that answer?")
        story.run("explain", request)
        heading("take it back, while the server runs")
        story.run("rollback", ALIAS, "--withdraw", "--as", "operator", "--reason", "demo")
        print(f"the alias stopped answering {seconds_until_withdrawn(client):.2f} s after the command ended", flush=True)


def main() -> None:
    started = time.monotonic()
    story = Story(WORKSPACE)
    heading("a workspace, a tenant, and people with keys of their own")
    story.run("init", "--tenant", "acme", "--workspace", shown(WORKSPACE))
    heading("climb the ladder")
    story.run("adapt", shown(HERE / "objective.yaml"))
    release = story.newest_release()
    if release is None:
        sys.exit("the climb ended without a release, for the reason above")
    story.put_into_production(release["digest"])
    if (story.newest_release() or {}).get("state") == "production":
        serve_and_take_back(story)
    else:
        print("\nthis release was rolled back by an earlier run, and a retired release never returns; `make demo-clean` starts anew")
    heading("is the record whole?")
    story.run("audit", "checkpoint", "--as", "admin")
    story.run("audit", "verify")
    print(f"\nThe demo took {time.monotonic() - started:.0f} s. Where to go next:")
    print("  · your own data: copy examples/support_desk/objective.yaml, name your file, and run `tailorbird plan` on it")
    print("  · docs/tutorial.md tells the same story step by step; docs/concepts.md explains the words")
    print("  · the demo's record stays in .demo: try `tailorbird --help`, and `tailorbird audit log -w .demo`")


if __name__ == "__main__":
    main()
