"""All commands of `sendcode`, and where each is: its module is loaded when it is called.

So `sendcode --help` is quick, and a command's module imports what it needs at its top, like any
other. The line that a command has in the lists is the first of its docstring (a test compares).
`make docs` writes the command reference, docs/commands.md, by `reference` at the end.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from producer.cli import console

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_PASSED_ON = {
    # all options, --help too, are the program's own
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is, as "module:function" in this package, and its line in the lists."""

    where: str
    line: str
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A group of commands."""

    line: str
    commands: Mapping[str, Command]


COMMANDS: Mapping[str, Mapping[str, Command | Group]] = {
    "Send": {
        "send": Command("job:send", "Send one verification code, ahead of all batches."),
        "batch": Group(
            "A file of customers: check, submit, watch, steer, take the results.",
            {
                "check": Command(
                    "batch_check:check",
                    "Look at a file as `submit` would, sending and changing nothing.",
                ),
                "submit": Command(
                    "batch_submit:submit",
                    "Have a code sent to each customer of a file. Asks first on a terminal.",
                ),
                "status": Command(
                    "batch:status",
                    "Show how far a batch is, with the files that corrected it; without an "
                    "id, all batches.",
                ),
                "list": Command("batch:list_batches", "Show all batches, the newest first."),
                "pause": Command(
                    "batch:pause", "Stop a batch; what is in work ends by itself, the rest waits."
                ),
                "resume": Command(
                    "batch:resume",
                    "Let a paused batch go on, or one that is to start later start now.",
                ),
                "cancel": Command(
                    "batch:cancel",
                    "End a batch for good: what waits is not sent any more. Asks first, or "
                    "wants --yes.",
                ),
                "results": Command(
                    "batch:write_results",
                    "Write the customer's own columns with what became of each row, for Excel.",
                ),
            },
        ),
    },
    "Look and steer": {
        "status": Command("system:status", "Show queues, rate, account, workers and batches."),
        "doctor": Command(
            "doctor:doctor", "Check settings, Redis, clock, credentials and workers."
        ),
        "halt": Command(
            "system:halt",
            "Stop all sending, of everybody, until `sendcode resume`. Asks first on a terminal.",
        ),
        "resume": Command("system:resume", "Let sending go on, whoever halted it."),
        "actions": Command(
            "system:actions",
            "Show who submitted, halted, paused, cancelled, requeued or dropped what, the "
            "newest first.",
        ),
        "job": Group(
            "One job: its whole story, and its end by a person's word.",
            {
                "show": Command(
                    "job:show_job",
                    "Show what happened to a job, attempt by attempt, with RequestIds for "
                    "the vendor.",
                ),
                "cancel": Command("job:cancel", "Cancel one job that waits: it is never sent."),
            },
        ),
        "dead": Group(
            "Dead letters: what failed, why, and what to do about it.",
            {
                "list": Command(
                    "dead:list_dead", "Show the dead letters by code, with meaning and remedy."
                ),
                "show": Command(
                    "dead:show_dead", "Show one dead letter's story, and what can be done."
                ),
                "requeue": Command(
                    "dead:requeue",
                    "Try dead letters again: single jobs, or all of a code or batch.",
                ),
                "drop": Command(
                    "dead:drop",
                    "Take dead letters off the list for good; they stay in their batch's results.",
                ),
                "export": Command(
                    "dead:export",
                    "Write dead letters as a sheet: full numbers, what happened, what to do.",
                ),
            },
        ),
        "quota": Group(
            "Bounds on spending: how many codes events may ask for.",
            {
                "status": Command(
                    "quota:status",
                    "Show each rule with its limits, and how often it refused a code or "
                    "would have.",
                ),
                "simulate": Command(
                    "quota:simulate",
                    "Show what the rules of the settings would have refused of past triggers.",
                ),
            },
        ),
        "webhook": Group(
            "Where outcomes go that backends are told of, and what was not delivered.",
            {
                "list": Command(
                    "webhook:list_webhooks",
                    "Show where outcomes go, whether they are taken, and how many were not "
                    "delivered.",
                ),
                "replay": Command(
                    "webhook:replay",
                    "Switch a webhook on again, and have what it did not take delivered now.",
                ),
                "secret": Command(
                    "webhook:secret",
                    "Make a new secret, shown once, that signs beside the one before; or "
                    "finish that.",
                ),
                "remove": Command(
                    "webhook:remove",
                    "Send no more outcomes to a backend. Asks first, or wants --yes.",
                ),
            },
        ),
        "purge": Command(
            "purge:purge", "Remove what ended long ago: events, and batches with all their rows."
        ),
        "forget": Command(
            "forget:forget",
            "Blank what is kept of a person: ended jobs, rows, history, dead letters.",
        ),
        "keys": Group(
            "The keys under which the ledger's numbers and rows are sealed.",
            {
                "new": Command(
                    "keys:new",
                    "Make a data key and print it, as SENDCODE_DATA_KEYS takes it. Nothing is "
                    "kept or changed.",
                ),
                "status": Command(
                    "keys:status",
                    "Show how much of the ledger is sealed under which key. Exit 1 if a key is "
                    "not here.",
                ),
                "rotate": Command(
                    "keys:rotate",
                    "Seal anew, under the first key of SENDCODE_DATA_KEYS, what is sealed under "
                    "the others.",
                ),
            },
        ),
        "ledger": Group(
            "The ledger itself: which one is accepted, what was put aside.",
            {
                "accept": Command(
                    "system:accept",
                    "Take an emptied, exchanged or older ledger as it is, and let sending go on.",
                ),
                "quarantine": Command(
                    "system:quarantine", "Show the messages that workers put aside as no jobs."
                ),
            },
        ),
    },
    "Run": {
        "init": Command(
            "init:init",
            "Write the .env of this folder, with a data key and passwords; then see what `doctor` "
            "says.",
        ),
        "worker": Command("processes:worker", "Run a worker, until Ctrl-C or SIGTERM."),
        "web": Command("web:web", "Run the console and the HTTP API, until Ctrl-C or SIGTERM."),
        "token": Group(
            "Who may use the HTTP API.",
            {
                "new": Command(
                    "web:new", "Make a token for a backend. It is shown once, and kept nowhere."
                ),
                "list": Command(
                    "web:list_tokens", "Show who may use the HTTP API, without their tokens."
                ),
                "revoke": Command(
                    "web:revoke",
                    "End a token: its next request is refused. Asks first, or wants --yes.",
                ),
            },
        ),
        "user": Group(
            "Who may use the console.",
            {
                "add": Command(
                    "user:add",
                    "Add a user of the console. Asks for a password, or reads it from standard "
                    "input.",
                ),
                "list": Command("user:list_users", "Show who may use the console."),
                "remove": Command(
                    "user:remove",
                    "Remove a user; they are signed out at once. Asks first, or wants --yes.",
                ),
                "password": Command(
                    "user:password",
                    "Set a user's password; they are signed out everywhere.",
                ),
            },
        ),
        "flower": Command("processes:flower", "Run Flower, the view on workers, tasks and queues."),
        "demo": Command(
            "processes:demo",
            "Show the whole system on this machine; nothing else is needed.",
            _PASSED_ON,
        ),
        "sandbox": Command("processes:sandbox", "Run the stand-in of the API.", _PASSED_ON),
    },
}
"""By their place in the help, then by name."""


class PlainCommand(TyperCommand):
    """A command whose help suits a terminal of any width."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = flowing(self.help or "")

    def get_params(self, ctx: Any) -> Any:
        return _with_plain_flags(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: Any) -> Any:
        return _with_plain_flags(super().get_params(ctx))


class LazyCommand(TyperCommand):
    """A command that is known by its line, until it is called."""

    def __init__(self, name: str, known: Command, panel: str | None = None) -> None:
        super().__init__(name, help=known.line, rich_help_panel=panel)
        self._known = known

    @cached_property
    def itself(self) -> Any:
        """Load and return the command itself."""
        module, _, function = self._known.where.partition(":")
        callback = getattr(import_module(f"producer.cli.{module}"), function)
        app = plain_app()
        settings = dict(self._known.settings or {})
        app.command(self.name, cls=PlainCommand, context_settings=settings)(callback)
        return get_command(app)

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the command's words, which needs its options and so loads it."""
        return self.itself.make_context(*args, **options)


def plain_app(**options: Any) -> typer.Typer:
    """Return an app without what typer adds: completion, and tracebacks in colour."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **options)


def flowing(text: str) -> str:
    """Undo the line breaks within paragraphs: they are those of the source."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _with_plain_flags(params: Any) -> Any:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""  # typer would show <bool>
    return params


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version as version_of  # noqa: PLC0415 (not for `--help`)

        console.show(f"sendcode {version_of('sendcode')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _tree() -> TyperGroup:
    root = plain_app(
        help="Sends verification codes: nothing lost, nothing twice, never above the limit.",
        cls=PlainGroup,
        no_args_is_help=True,
        context_settings=HELP_OPTIONS,
    )
    root.callback()(_root)
    tree = get_group(root)
    for panel, entries in COMMANDS.items():
        for name, entry in entries.items():
            if isinstance(entry, Command):
                tree.add_command(LazyCommand(name, entry, panel))
            else:
                tree.add_command(_group(name, entry, panel))
    return tree


def _group(name: str, listed: Group, panel: str) -> TyperGroup:
    group = get_group(plain_app(help=listed.line, cls=PlainGroup))
    group.name, group.rich_help_panel = name, panel
    for each, command in listed.commands.items():
        group.add_command(LazyCommand(each, command))
    return group


app = _tree()


_REFERENCE = """# Commands

Written by `make docs` from the commands' own help. Results go to standard output, all else to
standard error. Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted."""


def reference() -> str:
    """Return the text of docs/commands.md."""
    parts = [_REFERENCE]
    for panel, entries in COMMANDS.items():
        parts.append(f"## {panel}")
        for name in entries:
            parts += _described(app.commands[name], f"sendcode {name}")
    return "\n\n".join(parts) + "\n"


def _described(command: Any, path: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _described(each, f"{path} {name}")
        return
    itself = command.itself if isinstance(command, LazyCommand) else command
    parameters = [each for each in itself.params if not each.hidden]
    words = [_name(each) for each in parameters if each.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(words) < len(parameters) else []
    yield f"### {path}\n\n    {' '.join([path, *options, *words])}"
    yield str(itself.help)
    if rows := [_row(each) for each in parameters]:
        yield "\n".join(["| Option | Meaning |", "| --- | --- |", *rows])


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]")


def _row(parameter: Any) -> str:
    names = [f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts)]
    if parameter.param_type_name == "argument":
        names = [f"`{_name(parameter)}`"]
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    plain = parameter.default
    if plain not in (None, "", False) and not callable(plain):
        text += f" Default: `{plain}`."
    if parameter.required:
        text += " Required."
    return f"| {', '.join(names)} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
