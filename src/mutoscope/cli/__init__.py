"""The command `mutoscope`: each command a few lines that call what does the work.

Errors are one sentence on stderr: exit code 1 when it could not be done, 2 when it was asked wrongly.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.exceptions import TyperException

from mutoscope import __version__
from mutoscope.cli import accounts, databases, inspecting, keeping, making, model, top, webhooks
from mutoscope.cli.terminal import CommandError, err
from mutoscope.config import SettingsError

app = typer.Typer(
    name="mutoscope",
    help="Reference images and a prompt in, a video out.\n\n"
    "Start with [bold]mutoscope serve --sandbox[/bold], or make one video right here with "
    '[bold]mutoscope render "the camera pushes in" -r photo.jpg -o out.mp4[/bold].',
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(accounts.accounts_app, name="accounts")
app.add_typer(accounts.keys_app, name="keys")
app.add_typer(databases.db_app, name="db")
app.add_typer(keeping.tasks_app, name="tasks")
app.add_typer(webhooks.webhooks_app, name="webhooks")

for command in (
    making.serve,
    making.worker,
    making.render,
    inspecting.inspect,
    making.models,
    making.mcp,
    model.pull,
    model.plan,
    accounts.credit,
    keeping.doctor,
    keeping.replay,
    top.top,
):
    app.command()(command)


def main() -> None:
    """Run the command line; every expected error becomes one sentence."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        _leave("Interrupted.", 130)
    except TyperException as error:
        _leave_wrongly_asked(error)
    except Exception as error:
        sentence = _explain(error)
        if sentence is None:  # a fault of ours: its trace is what helps
            raise
        asked_wrongly = isinstance(error, SettingsError | ValueError)
        _leave(sentence, error.exit_code if isinstance(error, CommandError) else 2 if asked_wrongly else 1)


def _explain(error: Exception) -> str | None:
    from sqlalchemy.exc import SQLAlchemyError

    from mutoscope.client import ClientError
    from mutoscope.files import FilesError
    from mutoscope.planning.questions import PlanError
    from mutoscope.weights import WeightsError

    match error:
        case CommandError() | SettingsError() | ClientError() | FilesError() | WeightsError() | PlanError():
            return str(error)
        case ModuleNotFoundError():
            return f"The Python package {error.name} is needed for this, and is not installed."
        case SQLAlchemyError():
            return f"The database can't be used: {str(error).splitlines()[0]}."
        case OSError():
            why = f"{error.strerror or error}."
            return f"{error.filename} can't be used: {why}" if error.filename else why
    return None


def _leave_wrongly_asked(error: Any) -> None:
    message = error.format_message().strip()
    if "\n" in message or not message:  # no mistake: a command that was given nothing shows its help
        error.show()
        sys.exit(error.exit_code)
    context = error.ctx
    hint = f" See `{context.command_path} --help`." if context is not None else ""
    _leave(f"{message.rstrip('.')}.{hint}", error.exit_code)


def _leave(message: str, code: int) -> None:
    err.print(f"[red]mutoscope:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
