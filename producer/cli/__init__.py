"""The command line `sendcode`."""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """Run `sendcode` with the process' arguments."""
    # As yet there is nothing to tidy up: Ctrl-C ends the process without a traceback.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What is loaded stays: to look through it for garbage is an eighth of the start. So garbage
    # waits until the command is loaded, too (`LazyCommand.itself`).
    gc.disable()
    # pydantic would read what each installed package says of itself, to find plugins of its own
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from producer.cli import commands, console  # noqa: PLC0415 (loaded while Ctrl-C is harmless)

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    console.run(commands.app)
