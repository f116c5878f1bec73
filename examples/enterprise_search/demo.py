"""Enterprise search, from data to answers over HTTP: a ranking tuned and released, grounded answers that borrow its encoder, access groups.

It drives the ``tailorbird`` command line as a person would, and prints every command. Two keys of different groups ask the same: neither is
ever shown a passage of the other's.

    python examples/enterprise_search/demo.py
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from story import Client, Story, heading, shown, temporary_workspace

HERE = Path(__file__).resolve().parent
SEARCH, ANSWERS = "ravnholm/intranet-search", "ravnholm/intranet-answers"
#: Groups of the keys. Documents for everyone are everybody's.
KEYS = {"the crew app": (), "the engineers' app": ("fleet",), "the payroll app": ("people", "finance")}
LOADING_SECONDS = 60
QUERIES = ("Where's the AED on the pillow?", "what is broken on the flagship", "redundancy at the ticket counters")
QUESTIONS = (
    "How many kids can we fit with a vest on the toaster?",
    "How much extra do I get at night under lates money?",
    "What is broken on the flagship?",
)


def adapted(story: Story, objective: Path) -> str:
    """The release of an objective, put into production."""
    story.run("adapt", shown(objective))
    name = objective.stem
    for release in story.json("release", "list"):
        if release["content"]["objective_name"] == f"intranet-{name}":
            story.put_into_production(release["digest"])
            return str(release["digest"])
    sys.exit(f"the climb of {objective.name} ended without a release, for the reason above")


def posted(client: Client, path: str, body: dict[str, object]) -> httpx.Response:
    """The answer to a request. A server that has just begun may be loading the release still; then it says so (503), and is asked again."""
    for _ in range(LOADING_SECONDS):
        response = client.http.post(path, json=body)
        if response.status_code != 503:
            break
        time.sleep(1)
    response.raise_for_status()
    return response


def search(client: Client, query: str) -> list[str]:
    """Ids of the documents that are found, best first; the first three are shown."""
    answer = posted(client, "/v1/rerank", {"model": SEARCH, "query": query, "top_n": 100})
    found = [result["document"]["id"] for result in answer.json()["results"]]
    print(f"     {', '.join(found[:3])}  (the first of {len(found)})", flush=True)
    return found


def answer(client: Client, question: str) -> tuple[str, list[str]]:
    """The request's id and the documents whose passages stood in the prompt."""
    body = {"model": ANSWERS, "messages": [{"role": "user", "content": question}], "max_tokens": 48}
    told = posted(client, "/v1/chat/completions", body)
    passages = [passage["id"] for passage in told.json()["tailorbird"]["passages"]]
    print(f"     A: {told.json()['choices'][0]['message']['content']}\n        from {', '.join(passages)}", flush=True)
    return told.headers["x-tailorbird-request-id"], [passage.partition("#")[0] for passage in passages]


def require_readable(who: str, groups: Sequence[str], found: Sequence[str]) -> None:
    """Ends the script where something was found that the key may not read."""
    documents = [json.loads(line) for line in (HERE / "documents.jsonl").read_text(encoding="utf-8").splitlines()]
    readable = {document["id"] for document in documents if {"everyone", *groups} & set(document["groups"])}
    if crossed := set(found) - readable:
        sys.exit(f"the example stops here: {who} was shown {', '.join(sorted(crossed))}")


def ask_everybody(url: str, secrets: dict[str, str]) -> str:
    """The same queries and questions by every key; the id of the last answer."""
    request = ""
    clients = {who: Client(url, secret) for who, secret in secrets.items()}
    heading("search: /v1/rerank, the same queries by three keys")
    for query in QUERIES:
        print(f"  Q: {query}")
        for who, client in clients.items():
            print(f"   {who} ({', '.join(KEYS[who]) or 'no group'})")
            require_readable(who, KEYS[who], search(client, query))
    heading("grounded answers: /v1/chat/completions, from passages that the key may read")
    for question in QUESTIONS:
        print(f"  Q: {question}")
        for who, client in clients.items():
            print(f"   {who} ({', '.join(KEYS[who]) or 'no group'})")
            request, found = answer(client, question)
            require_readable(who, KEYS[who], found)
    return request


def play(workspace: Path, search_objective: Path, answers_objective: Path) -> None:
    """The whole story in ``workspace``."""
    started, story = time.monotonic(), Story(workspace)
    heading("a workspace, a tenant, and people with keys of their own")
    story.run("init", "--tenant", "ravnholm", "--workspace", shown(workspace))
    story.run("models", "pull", "minilm-l6-v2")
    heading("job one: rank the pages of the intranet")
    lender = adapted(story, search_objective)
    heading("job two: answer from passages, found by the encoder of job one")
    adapted(story, answers_objective)
    heading("serve both; a key for each audience")
    options = {who: [option for group in groups for option in ("--group", group)] for who, groups in KEYS.items()}
    secrets = {who: story.key(f"app-{place}", *options[who]) for place, who in enumerate(KEYS)}
    with story.serving() as url:
        request = ask_everybody(url, secrets)
        heading("what stands behind the last answer?")
        told = story.run("explain", request)
    if lender not in told:
        sys.exit("the example stops here: the explanation does not name the release that lent its encoder")
    heading("is the record whole?")
    story.run("audit", "checkpoint", "--as", "admin")
    story.run("audit", "verify")
    print(f"\nFrom data to answers: {time.monotonic() - started:.0f} s. No key was shown a passage of another group.")


if __name__ == "__main__":
    with temporary_workspace() as place:
        play(place, HERE / "search.yaml", HERE / "answers.yaml")
