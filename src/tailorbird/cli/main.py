"""``tailorbird``: the verbs, each loaded only when it is called, so that ``--help`` is instant and needs no torch."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from tailorbird.cli.invocation import (
    AGAIN,
    FLAGS,
    SERVER,
    SERVER_CA,
    CommandGroup,
    ExitStatus,
    Interrupted,
    SharedOptions,
    amend,
    begin,
    tell,
)
from tailorbird.domain.errors import TailorbirdError
from tailorbird.system.machine import start_no_more_threads_than_cores
from tailorbird.system.process import build_name, complete_standard_streams

#: Verb → (module, what it does), in the order of a project.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("init", "Create a workspace with a tenant, identities and keys."),
    "models": ("models", "List and download base models."),
    "data": ("data", "Inspect, curate, correct, compare and prove data; erase a data subject."),
    "doctor": ("adapt", "Check a training job for faults before it runs."),
    "plan": ("adapt", "Show what adapt would train, at what cost, and why."),
    "adapt": ("adapt", "Climb the ladder until a candidate meets the objective."),
    "runs": ("runs", "List, show, allow and cancel runs."),
    "evidence": ("runs", "Show the evidence for a run's decision on one page."),
    "compare": ("runs", "Compare two candidates or runs in pairs."),
    "worker": ("serve", "Execute the steps of submitted runs, for every tenant."),
    "release": ("releases", "List, show, verify, approve, reject and stage releases."),
    "review": ("releases", "Review a release's answers blind; show reviewer agreement."),
    "export": ("releases", "Export an approved release as a model or an adapter, also in GGUF."),
    "promote": ("releases", "Promote a staged release to production."),
    "rollback": ("releases", "Roll an alias back to the previous release."),
    "drill": ("releases", "Rehearse promotion and rollback of a staged release."),
    "rollout": ("releases", "Start and control guarded progressive rollouts."),
    "serve": ("serve", "Serve the OpenAI-compatible API, the control API and the console."),
    "engine": ("serve", "Run the model process that serve starts (internal)."),
    "watch": ("production", "Check production for drift, errors and missed targets."),
    "tenant": ("access", "Add, limit, suspend, remove and list tenants."),
    "endpoint": ("access", "Register, list and remove hosted models."),
    "key": ("access", "Create, limit, rotate, revoke and list API keys."),
    "identity": ("access", "Add, confirm, disable and list identities; rotate your key."),
    "feedback": ("production", "Record feedback on an answer."),
    "label": ("production", "Label the queue of live answers."),
    "explain": ("production", "Trace an answer to its release, evidence, data and approvers."),
    "audit": ("maintenance", "Verify, sign, prove and export the tamper-evident log."),
    "database": ("maintenance", "Make the tables of the database; print its roles for gateway and worker."),
    "encryption": ("maintenance", "Encrypt data at rest; show its state; rotate the workspace key."),
    "backup": ("maintenance", "Back up database, artifacts and settings while serving."),
    "restore": ("maintenance", "Restore a backup into a new workspace."),
}

#: Seconds that threads and exit handlers have to end once the command was interrupted.
_LEAVING_SECONDS = 0.5


#: Set by the shell while it asks for completions.
_COMPLETING = "_TAILORBIRD_COMPLETE"

#: The last line of each verb's help.
_SHARED_HELP = f"Shared options, before or after the verb ({', '.join(FLAGS.values())}): see tailorbird --help."


class Verbs(CommandGroup):
    """The verbs; one is imported when it is called, and takes the root's shared options."""

    #: True while names and help suffice.
    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the table, without the internal engine."""
        del ctx
        return [verb for verb in VERBS if verb != "engine"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb, imported now; None when there is no such verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=VERBS[cmd_name][1])
        module = import_module(f"tailorbird.cli.{VERBS[cmd_name][0]}")
        command = typer.main.get_command(module.apps[cmd_name])
        command.name = cmd_name
        _take_shared(command, [option for option in self.params if option.name in FLAGS])
        return command

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Verbs and options that begin with ``incomplete``, without importing any verb."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

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


def _take_shared(command: Any, shared: Iterable[Any]) -> None:
    """Lets ``command`` and its subcommands take the root's ``shared`` options, too. Their own parsers read them: no value is mistaken."""
    for option in shared:
        taken = copy(option)
        taken.name, taken.envvar, taken.expose_value = f"shared_{option.name}", None, False
        taken.callback = partial(_amended, option.name)
        taken.hidden = _COMPLETING not in os.environ
        command.params.append(taken)
    command.epilog = _SHARED_HELP
    for below in getattr(command, "commands", {}).values():
        _take_shared(below, shared)


def _amended(name: str, _context: object, _option: object, value: object) -> None:
    if value:
        amend(name, value)


app = typer.Typer(cls=Verbs, no_args_is_help=True, rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tailorbird {build_name()}")
        raise typer.Exit


@app.callback()
def tailorbird(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Workspace folder. [default: .tailorbird here or in a folder above]")
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Acting identity, [TENANT/]NAME; its key proves it. [default: the identity named after the role that the verb needs "
            "(approver, operator, reviewer, admin), which is told; else the workspace's]",
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Key file of the acting identity. [default: the workspace's]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    server: Annotated[str, typer.Option("--server", envvar=SERVER, help="Server (URL) to ask instead of this machine's workspace.")] = "",
    ca: Annotated[str, typer.Option("--ca", envvar=SERVER_CA, help="Certificate authority (PEM file) to trust at the server.")] = "",
) -> None:
    """Adapt a language model to a job, prove it, release it under approvals, serve it, and roll it back.

    The options below, --version and completion aside, are shared: they stand before or after the verb.
    """
    del version
    os.umask(0o077)  # whatever this process and its children write is for its owner alone
    begin(SharedOptions(workspace, who, key, as_json, server, ca))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status. As the process's own command (no ``arguments``) it ends the process."""
    complete_standard_streams()
    start_no_more_threads_than_cores()
    try:
        return _run(arguments)
    except SystemExit as ended:
        if arguments is None and isinstance(ended.code, int) and any(thread.daemon for thread in threading.enumerate()):
            _leave(ended.code)
        raise


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="tailorbird", standalone_mode=True)
    except TailorbirdError as error:
        tell(f"error[{error.error_code}]: {error.message}", err=True)
        tell(f"hint: {error.hint}", err=True)
        sys.exit(ExitStatus.FAILED)
    except ValueError as error:
        # An argument that no request can carry (pydantic's error, which is not imported for ``--help``). Raises what is none.
        if isinstance(error, UnicodeEncodeError):
            tell("error[invalid_request]: an argument is not UTF-8 text", err=True)
            tell("hint: write it in UTF-8, or rename the file that it names", err=True)
        else:
            faults = getattr(error, "errors", None)
            if faults is None:
                raise error
            first = faults()[0]
            tell(f"error[invalid_request]: {'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}", err=True)
            tell("hint: see --help of the command", err=True)
        sys.exit(ExitStatus.FAILED)
    except OSError as error:
        tell(f"error[system]: {error.filename or 'the system'}: {error.strerror or type(error).__name__}", err=True)
        tell("hint: check the place, its disk and your rights there, then run the same command again", err=True)
        sys.exit(ExitStatus.FAILED)
    except (Interrupted, KeyboardInterrupt) as error:
        tell(str(error) or AGAIN, err=True)
        sys.exit(ExitStatus.INTERRUPTED)
    return 0


def _leave(status: int) -> NoReturn:
    """Ends the process without finalising the interpreter: daemon threads that compute in native code then (a training step that was
    interrupted) would be unwound through frames that cannot be, which aborts the process. A kill spoils nothing that they do.

    Other threads are waited for, after an interruption for ``_LEAVING_SECONDS``.
    """
    if status == ExitStatus.INTERRUPTED:
        leaving = threading.Timer(_LEAVING_SECONDS, os._exit, (status,))
        leaving.daemon = True
        leaving.start()
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
