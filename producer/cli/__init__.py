"""The command line `sendcode`."""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """Run `sendcode` with the process' arguments."""
    # So far there is nothing to clean up: Ctrl-C ends the process without a traceback.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What is loaded stays: collecting garbage in it would take an eighth of the start-up time. So
    # that is off until the command is loaded, too (`LazyCommand.itself`).
    gc.disable()
    # pydantic would read the metadata of each installed package to find plugins of its own
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from producer.cli import commands, console  # noqa: PLC0415 (loaded while Ctrl-C is harmless)

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    console.run(commands.app)
