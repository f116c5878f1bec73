"""``tailorbird``: the verbs, each loaded only when it is called, so that ``--help`` is instant and needs no torch."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tailorbird import __version__
from tailorbird.cli.invocation import AGAIN, SERVER, SERVER_CA, ExitStatus, Interrupted
from tailorbird.domain.errors import TailorbirdError

#: Verb → (module, what it does), in the order of the story.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a workspace, a tenant and identities with keys."),
    "models": ("models", "List base models, and fetch one."),
    "data": ("data", "Inspect, curate, fix, compare and show data; forget a person."),
    "doctor": ("doctor", "Find what would go wrong with the training, in seconds."),
    "plan": ("plan", "Show what adapt would do and why, before anything is spent."),
    "adapt": ("adapt", "Climb the ladder until the objective is proven met."),
    "runs": ("runs", "List runs, and show one."),
    "evidence": ("evidence", "Show the grounds of a run's decision on one page."),
    "compare": ("evidence", "Compare any two candidates or runs."),
    "jobs": ("runs", "List, show and cancel what is being done."),
    "worker": ("worker", "Do the steps of submitted runs, for every tenant."),
    "release": ("release", "List, show, approve, reject and stage releases."),
    "judge": ("judge", "Judge a release's answers blindly; see how far people agree."),
    "export": ("export", "Write an approved release as one model for other engines."),
    "promote": ("promote", "Put a staged release before users."),
    "rollback": ("promote", "Take the present release of an alias back."),
    "drill": ("rollouts", "Rehearse promotion and rollback in staging."),
    "rollout": ("rollouts", "Let a release in by degrees, guarded."),
    "serve": ("serve", "Answer over HTTP (OpenAI-compatible)."),
    "engine": ("serve", "The model process that serve starts (not for people)."),
    "watch": ("watch", "Compare live inputs and answers with the snapshot."),
    "tenant": ("tenants", "Add, limit, suspend, remove and list tenants."),
    "key": ("keys", "Create, list, rotate and revoke API keys."),
    "identity": ("keys", "Add, list and disable identities; rotate your key."),
    "feedback": ("feedback", "Say what became of an answer."),
    "review": ("feedback", "Label answers that wait for people."),
    "explain": ("explain", "Show everything that stands behind an answer."),
    "audit": ("audit", "Verify, sign and read the tamper-evident log."),
    "backup": ("backup", "Copy the record, the artifacts and the keys while serving."),
    "restore": ("backup", "Make a workspace from a backup, elsewhere."),
}

#: Seconds that threads have to end once the command was interrupted.
_LEAVING_SECONDS = 0.5


class Verbs(TyperGroup):
    """A command group that imports a verb when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of the story; the engine is not for people."""
        del ctx
        return [verb for verb in VERBS if verb != "engine"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb, imported now; None when there is no such verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module = import_module(f"tailorbird.cli.{VERBS[cmd_name][0]}")
        command = typer.main.get_command(module.apps[cmd_name])
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Raises Interrupted where somebody ends it: typer would pass over an interruption in silence."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(AGAIN) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs with what they do, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, VERBS[verb][1]) for verb in self.list_commands(ctx)])


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tailorbird {__version__}")
        raise typer.Exit


@app.callback()
def tailorbird(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and leave."),
    server: str = typer.Option("", help="Ask the server at this URL instead of this machine's workspace (or set TAILORBIRD_SERVER)."),
    ca: str = typer.Option("", help="File of the certificate authority that signed the server's certificate."),
) -> None:
    """Adapt a language model to a job, prove it, release it under approvals, serve it, and take it back."""
    del version
    os.umask(0o077)  # whatever this process and its children write is for its owner alone
    os.environ.update({name: value for name, value in ((SERVER, server), (SERVER_CA, ca)) if value})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="tailorbird", standalone_mode=True)
    except TailorbirdError as error:
        typer.echo(f"error[{error.error_code}]: {error.message}", err=True)
        typer.echo(f"hint: {error.hint}", err=True)
        sys.exit(ExitStatus.FAILED)
    except ValueError as error:
        _tell_invalid(error)
        sys.exit(ExitStatus.FAILED)
    except OSError as error:
        typer.echo(f"error[system]: {error.filename or 'the system'}: {error.strerror or type(error).__name__}", err=True)
        typer.echo("hint: check the place, its disk and your rights there, then run the same command again", err=True)
        sys.exit(ExitStatus.FAILED)
    except (Interrupted, KeyboardInterrupt) as error:
        typer.echo(str(error) or AGAIN, err=True)
        if arguments is None:
            _leave_soon()
        sys.exit(ExitStatus.INTERRUPTED)
    return 0


def _leave_soon() -> None:
    """Ends the process a moment later even where threads that read a model or write a file are not done: a kill spoils none of it."""
    leaving = threading.Timer(_LEAVING_SECONDS, os._exit, (int(ExitStatus.INTERRUPTED),))
    leaving.daemon = True
    leaving.start()


def _tell_invalid(error: ValueError) -> None:
    """An argument that no request can carry (pydantic's error, which is not imported for ``--help``). Raises what is none."""
    if isinstance(error, UnicodeEncodeError):
        typer.echo("error[invalid_request]: an argument is not UTF-8 text", err=True)
        typer.echo("hint: write it in UTF-8, or rename the file that it names", err=True)
        return
    faults = getattr(error, "errors", None)
    if faults is None:
        raise error
    first = faults()[0]
    typer.echo(f"error[invalid_request]: {'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}", err=True)
    typer.echo("hint: see --help of the command", err=True)


if __name__ == "__main__":
    main()
