"""The support chatbot from its data to a handed-over conversation over HTTP: adapt, approve, promote, serve, talk, hand over, feedback.

    python examples/support_chatbot/demo.py

It drives the ``tailorbird`` command line as a person would, in a temporary workspace (``TAILORBIRD_WORKSPACE`` names one that stays), and
prints every command. The objective may be named: ``demo.py path/to/objective.yaml``.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from story import Answer, Client, Story, heading, shown, temporary_workspace

HERE = Path(__file__).resolve().parent
ALIAS = "acme/support-chatbot"
#: What a passenger says, turn after turn. The lounge stands in the handbook and in no training conversation.
TALK = (
    "Hello. We booked Flex tickets for Saturday. What does a dog cost?",
    "Thanks. And one more thing. May I use the lounge?",
    "Sorry, I looked again: it is a Saver ticket. So may I use the lounge?",
    "I see. My father was hurt when the car deck was loaded. Who is liable?",
)


def talk(client: Client, said: Sequence[str]) -> list[Answer]:
    """Goes through a conversation: each answer becomes a part of what is sent with the next message."""
    messages: list[dict[str, str]] = []
    answers = []
    for text in said:
        messages.append({"role": "user", "content": text})
        answer = client.ask(ALIAS, messages)
        messages.append({"role": "assistant", "content": answer.text})
        answers.append(answer)
        print(f"  passenger: {text}\n  chatbot:   {answer.text}{'   → referred to people' if answer.referred else ''}")
        print(f"             with {', '.join(passage.partition('#')[0] for passage in answer.passages)}", flush=True)
    return answers


def serve_and_hand_over(story: Story, digest: str) -> None:
    """Serves the release, holds the conversation, and follows the answer that was left to people until it is settled."""
    heading("keep what is said for 30 days, redacted, so that a colleague who takes over can read it")
    story.run("tenant", "policy", "--keep-days", "30", "--as", "admin")
    secret = story.key("website", "--scope", "answer", "--scope", "feedback")
    heading("serve it, and talk")
    with story.serving() as url:
        client = Client(url, secret)
        answers = talk(client, TALK)
        heading("the passenger says what the answers were worth (POST /api/feedback)")
        for answer, thumb in zip(answers[:3], ("up", "up", "up"), strict=True):
            filed = client.feedback(answer.request, "thumb", thumb)
            print(f"  thumb {filed['value']} for {filed['request']}, score {filed['score']:g}")
        story.run("release", "live", digest)
        heading("what waits for people, and the answer that a colleague gave")
        story.run("label", "list")
        referred = next((answer for answer in answers if answer.referred), None)
        if referred is None:
            sys.exit("the example stops here: no answer was referred to people")
        story.run("label", "answer", referred.request, "Ms Varga of the harbour office has phoned him and filed claim 77.")
        heading("what stands behind an answer")
        story.run("explain", answers[0].request)


def main() -> None:
    started = time.monotonic()
    objective = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "objective.yaml"
    with temporary_workspace() as workspace:
        story = Story(workspace)
        heading("a workspace, a tenant, and people with keys of their own")
        story.run("init", "--tenant", "acme", "--workspace", str(workspace))
        heading("climb the ladder")
        story.run("adapt", shown(objective))
        release = story.newest_release()
        if release is None:
            sys.exit("the climb ended without a release, for the reason above")
        story.put_into_production(release["digest"])
        serve_and_hand_over(story, release["digest"].removeprefix("sha256:")[:12])
        heading("is the record whole?")
        story.run("audit", "verify")
    print(f"\nThe example took {time.monotonic() - started:.0f} s. docs/jobs/support_chatbot.md explains it.")


if __name__ == "__main__":
    main()
