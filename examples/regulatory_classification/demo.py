"""The job from data to answers, and a change of the rules: adapt, release, serve, append rows, adapt again, compare, roll out.

    python examples/regulatory_classification/demo.py

The workspace is a temporary one unless ``TAILORBIRD_WORKSPACE`` names it.
"""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from story import Client, Story, heading, shown, temporary_workspace  # noqa: E402

ALIAS = "acme/fair-clauses"
FILES = ("objective.yaml", "clauses.csv")
#: After so many requests the rollout has ended, or something is wrong with it.
MOST_REQUESTS = 2_000
CLAUSES = (
    "We may raise the price during the term; the next invoice will show it. In addition, disputes will be heard only in Corvale.",
    "If we should raise the price, we will write to you 30 days before, and you may leave by then.",
    "Your application will be assessed by an algorithm, and no person will look at its decision again.",
)


def main() -> None:
    started = time.monotonic()
    with temporary_workspace() as workspace:
        story = Story(workspace)
        job = data_folder(workspace)
        heading("a workspace, and people with keys of their own")
        story.run("init", "--tenant", "acme", "--workspace", shown(workspace))
        heading("climb the ladder")
        story.run("adapt", shown(job / "objective.yaml"))
        first = released(story)
        story.put_into_production(first)
        secret = story.key("reviewers")
        with story.serving() as url:
            client = Client(url, secret)
            heading("ask it")
            ask(client)
            change_the_rule(story, client, job)
            heading("the same clauses, after the change")
            ask(client)
        heading("is the record whole?")
        story.run("audit", "verify")
    print(f"\nThe example took {time.monotonic() - started:.0f} s.")


def data_folder(workspace: Path) -> Path:
    """A copy of the job's files beside the workspace: rows will be appended to it."""
    job = workspace.with_name(f"{workspace.name}-job")
    job.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(HERE / name, job / name)
    return job


def released(story: Story) -> str:
    """The release that the climb ended with."""
    release = story.newest_release()
    if release is None or release["state"] != "gated":
        sys.exit("the climb ended without a release, for the reason above")
    return str(release["digest"])


def ask(client: Client) -> None:
    for clause in CLAUSES:
        answer = client.ask(ALIAS, clause)
        print(f"  {clause}\n    → {answer.text}    (release {answer.release.removeprefix('sha256:')[:12]})", flush=True)


def change_the_rule(story: Story, client: Client, job: Path) -> None:
    """From the day on which the code gets an article to the release that knows it, while the first one answers."""
    started = time.monotonic()
    heading("the code gets an article: the rows that were labelled under it are appended, and the same command is given again")
    print(f"$ tail -n +2 new_rule.csv >> {shown(job / 'clauses.csv')}", flush=True)
    with (job / "clauses.csv").open("a", encoding="utf-8", newline="") as file:
        file.writelines((HERE / "new_rule.csv").read_text(encoding="utf-8").splitlines(keepends=True)[1:])
    story.run("adapt", shown(job / "objective.yaml"))
    second = released(story)
    name = second.removeprefix("sha256:")[:12]
    heading("approved by somebody else, and reviewed where the two releases differ")
    story.run("release", "approve", name, "--as", "approver", "--reason", "the new article is recognised, the others are kept")
    review(story, name, known_labels(job / "clauses.csv"))
    story.run("release", "stage", name, "--as", "operator")
    heading("rolled out: first beside the old release, then for half of the users, then for all")
    roll_out(story, client, name)
    print(f"from the new rows to the new release in production: {time.monotonic() - started:.0f} s", flush=True)


def known_labels(path: Path) -> dict[str, str]:
    """What the data say of each clause."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["text"]: row["labels"] for row in csv.DictReader(file)}


def review(story: Story, name: str, known: dict[str, str]) -> None:
    """Judges every item of the label review. A person reads the clause; here the labels in the data speak for that person, who sees the two
    answers without knowing whose they are."""
    item = story.json("review", "answers", name, "--as", "reviewer")
    while item["number"]:
        item = story.json("review", "mark", name, f"{item['number']}={mark(item, known[item['text']])}", "--as", "reviewer")
    story.run("review", "show", name)


def mark(item: dict[str, Any], right: str) -> str:
    """Which answer is nearer to what the data say."""
    far = [len(labels(item[side]) ^ labels(right)) for side in ("left", "right")]
    return "tie" if far[0] == far[1] else "left" if far[0] < far[1] else "right"


def labels(text: str) -> set[str]:
    return {part.strip() for part in text.split("|")} - {"none", ""}


def roll_out(story: Story, client: Client, name: str) -> None:
    """Starts the rollout, and sends the clauses of the new documents as their readers would until it has ended."""
    print("$ tailorbird rollout start", name, "--plan rollout.yaml --as operator", flush=True)
    begun = story.json("rollout", "start", name, "--plan", str(HERE / "rollout.yaml"), "--as", "operator")
    sent = 0
    for sent, (text, reader) in enumerate(traffic(), start=1):
        client.ask(ALIAS, text, user=reader)
        if sent % 20 == 0 and story.json("rollout", "show", begun["id"])["rollout"]["state"] != "running":
            break
    print(f"  {sent} requests later:", flush=True)
    story.run("rollout", "show", begun["id"])


def traffic() -> Iterable[tuple[str, str]]:
    """Clauses and who reads them."""
    with (HERE / "new_rule.csv").open(encoding="utf-8", newline="") as file:
        rows = [row["text"] for row in csv.DictReader(file)]
    return ((rows[number % len(rows)], f"reader {number % 40}") for number in range(MOST_REQUESTS))


if __name__ == "__main__":
    main()
