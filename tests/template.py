"""The process that programs are forked from: it has imported what they need.

`python -m tests.template ADDRESS` is for our programs, and with tests as further arguments for the
processes that run those. It is started by `tests.forked`, says `r` once it listens, takes orders at
its socket, and ends when its standard input does, with all that runs then.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from tests.fork import MESSAGE

_MOST_FILES = 8
_BEYOND = 100
"""More than the number of any file that a child is to have."""
_PATIENCE_S = 15
"""For processes that run tests, to end what these have started."""
_NEEDED = (
    *("celery.apps.worker", "celery.backends.redis", "celery.bin.celery", "kombu.transport.redis"),
    *("celery.app.control", "celery.app.log", "celery.worker.components", "celery.worker.strategy"),
    *("flower.command", "worker.app"),
    *("pydantic.type_adapter", "rich.console", "rich.progress", "rich.table"),
    *(f"producer.cli.{name}" for name in ("commands", "batch", "batch_check", "batch_submit")),
    *(f"producer.cli.{name}" for name in ("dead", "job", "system", "web")),
    *("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvicorn.protocols.http.h11_impl"),
    "sandbox.server",
)


def _serve(address: str, tests: list[str]) -> tuple[Any, list[int]]:
    """Fork for each order; return the order in the child, and the files that came with it."""
    children: dict[int, socket.socket] = {}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake.fileno())
    os.write(1, b"r")
    _import(tests)
    while True:
        ready = select.select([listener.fileno(), ended.fileno(), 0], [], [])[0]
        if 0 in ready:
            _end_with(children, _PATIENCE_S if tests else 0)
        if ended.fileno() in ready:
            ended.recv(MESSAGE)
            while children and (child := os.waitpid(-1, os.WNOHANG))[0]:
                with children.pop(child[0]) as caller, suppress(OSError):  # it may be gone
                    caller.send(str(child[1]).encode())
        if listener.fileno() in ready:
            caller, _ = listener.accept()
            order, files, _, _ = socket.recv_fds(caller, MESSAGE, _MOST_FILES)
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.setsid()
                caller.send(str(os.getpid()).encode())
                for each in (listener, ended, wake, caller, *children.values()):
                    each.close()
                return json.loads(order), files
            for file in files:
                os.close(file)
            children[pid] = caller


def _end_with(children: Collection[int], patience_s: float) -> NoReturn:
    """End what still runs, and this process: whatever would have ended it is gone.

    A process that runs tests notices that by itself, and ends all that it has started.
    """
    latest = time.monotonic() + patience_s
    running = set(children)
    while running and time.monotonic() < latest:
        running.discard(os.waitpid(-1, os.WNOHANG)[0])
        time.sleep(0.05)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _open_streams(numbers: list[int], *, is_unbuffered: bool) -> None:
    """Open the standard streams as Python does when it starts, for what they are now."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None
        if number in numbers:
            template = getattr(sys, name)
            stream = io.TextIOWrapper(
                open(  # noqa: SIM115 (as long as the process)
                    number,
                    "wb" if number else "rb",
                    buffering=0 if is_unbuffered and number else -1,
                    closefd=False,
                ),
                encoding=template.encoding,
                errors=template.errors,
                newline="\n" if number else None,
                line_buffering=not is_unbuffered and (name == "stderr" or os.isatty(number)),
                write_through=is_unbuffered,
            )
        else:
            os.close(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(command: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv[:] = command
    options = command[1:]
    if options[0] == "-u":
        del options[0]
    if options[:2] == ["-W", "ignore"]:
        warnings.simplefilter("ignore")
        del options[:2]
    if options[0] == "-P":
        del options[0]
    else:
        sys.path.insert(0, folder)
    kind, what, *words = options
    sys.argv[:] = [kind, *words]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = ModuleType("__main__")
        exec(what, vars(sys.modules["__main__"]))  # noqa: S102 (what `python -c` does)


def _end(code: int) -> None:
    """End as Python does, but for taking apart what the template has loaded: most of a short life.

    Return where the streams do not take what is left: Python is to tell that itself.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)


def _import(tests: list[str]) -> None:
    # what is loaded stays: no child looks through it for garbage, or copies it by that
    gc.disable()
    if tests:
        _import_tests(tests)
    else:
        for name in _NEEDED:
            import_module(name)
    gc.freeze()
    gc.enable()


def _import_tests(tests: list[str]) -> None:
    """Have pytest import them, for it to find them imported in each process that runs tests.

    Where something fails, those import all anew, and tell it: half a module would be taken for one.
    """
    options = ["--collect-only", "--capture=no", "-p", "no:cacheprovider"]
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        has_failed = import_module("pytest").main([*options, *tests])
    if has_failed:
        for name in [name for name in sys.modules if name.startswith("tests.")]:
            del sys.modules[name]


def main() -> None:
    address, *tests = sys.argv[1:]
    (numbers, command, folder, environment), files = _serve(address, tests)
    beyond = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _BEYOND) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(beyond, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    _open_streams(
        numbers, is_unbuffered="-u" in command[1:2] or bool(environment.get("PYTHONUNBUFFERED"))
    )
    try:
        _run(command, folder, environment)
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            _end((exc.code or 0) & 0xFF)
        raise
    _end(0)


if __name__ == "__main__":
    main()
