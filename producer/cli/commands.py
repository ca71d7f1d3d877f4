"""All commands of `sendcode`, and where each is: its module is loaded when it is called.

So `sendcode --help` is quick, and a command's module imports what it needs at its top, like any
other. The help lists a command with the first line of its docstring.
"""

from __future__ import annotations

import gc
import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from producer.cli import console

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
_PROGRAMS = frozenset({"demo", "sandbox"})
"""All of their options, even --help, are the program's own."""
_PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


COMMANDS: Mapping[str, Mapping[str, str | tuple[str, Mapping[str, Sequence[str]]]]] = {
    "Send": {
        "send": "job",
        "batch": (
            "A file of customers: check, submit, watch, control, get the results.",
            {
                "batch_check": ["check"],
                "batch_submit": ["submit"],
                "batch": ["status", "list", "pause", "resume", "cancel"],
                "batch_results": ["results"],
            },
        ),
    },
    "Watch and control": {
        "status": "system",
        "doctor": "doctor",
        "halt": "system",
        "resume": "system",
        "actions": "system",
        "job": (
            "One job: its whole story, and how to cancel it.",
            {"job": ["show", "cancel"]},
        ),
        "dead": (
            "Dead letters: what failed, why, and what to do about it.",
            {"dead": ["list", "show", "requeue", "drop", "export"]},
        ),
        "quota": (
            "Bounds on spending: how many codes events may ask for.",
            {"quota": ["status", "simulate"]},
        ),
        "webhook": (
            "Where backends receive outcomes, and what was not delivered.",
            {"webhook": ["list", "replay", "secret", "remove"]},
        ),
        "purge": "removing",
        "forget": "removing",
        "keys": (
            "The keys under which the ledger's numbers and rows are sealed.",
            {"keys": ["new", "status", "rotate"]},
        ),
        "ledger": (
            "The ledger itself: which one is accepted, what was put aside.",
            {"system": ["accept", "quarantine"]},
        ),
    },
    "Run": {
        "init": "init",
        "worker": "processes",
        "web": "web",
        "token": ("Who may use the HTTP API.", {"access": ["new", "list", "revoke"]}),
        "user": ("Who may use the console.", {"access": ["add", "list", "remove", "password"]}),
        "flower": "processes",
        "demo": "processes",
        "sandbox": "processes",
    },
}
"""By their place in the help, then by name: the module in this package where each is.

A group has its line in the help, and the names of its commands by their module. A command's
function is named after what a person types, `dead_list` for `sendcode dead list`.
"""


class PlainCommand(TyperCommand):
    """A command whose help suits a terminal of any width."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # the line breaks within paragraphs are those of the source
        paragraphs = inspect.cleandoc(self.help or "").split("\n\n")
        self.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)

    def get_params(self, ctx: Any) -> Any:
        return _with_plain_flags(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: Any) -> Any:
        return _with_plain_flags(super().get_params(ctx))


class LazyCommand(TyperCommand):
    """A command whose module is read, but not loaded, for its line in the lists."""

    def __init__(self, name: str, module: str, function: str, panel: str | None = None) -> None:
        self._module, self._function = module, function
        super().__init__(name, rich_help_panel=panel)

    def _line(self) -> str:
        """Return the first line of its docstring."""
        begins = rf'^def {self._function}\(.*?^    """(.+?)(?:"""|$)'
        source = (files(__package__) / f"{self._module}.py").read_text("utf-8")
        found = re.search(begins, source, re.MULTILINE | re.DOTALL)
        return found[1] if found else ""

    help = property(_line, lambda _, __: None)
    """Read when it is shown; the None that click sets is ignored."""

    @cached_property
    def itself(self) -> Any:
        """Load and return the command itself."""
        callback = getattr(import_module(f"producer.cli.{self._module}"), self._function)
        gc.freeze()
        gc.enable()
        app, settings = plain_app(), _PASSED_ON if self.name in _PROGRAMS else {}
        app.command(self.name, cls=PlainCommand, context_settings=settings)(callback)
        return get_command(app)

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the command's arguments, which needs its options and so loads it."""
        return self.itself.make_context(*args, **options)


def plain_app(**options: Any) -> typer.Typer:
    """Return an app without what typer adds: completion, and tracebacks in colour."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **options)


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
            if isinstance(entry, str):
                tree.add_command(LazyCommand(name, entry, name, panel))
                continue
            line, modules = entry
            group = get_group(plain_app(help=line, cls=PlainGroup))
            group.name, group.rich_help_panel = name, panel
            for module, names in modules.items():
                for each in names:
                    group.add_command(LazyCommand(each, module, f"{name}_{each}"))
            tree.add_command(group)
    return tree


app = _tree()
