"""Ctrl-C and SIGTERM, as a call in a thread of its own.

A Python handler runs in the main thread, in the middle of whatever that does: it may hold the lock that the handler needs, and a
signal that comes just before it waits for one is not looked at until the next. So the handler that Python has in C tells a socket,
as `asyncio` does it, and a thread listens there.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nodegraph.cli import CANCELLED

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signal(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at the first Ctrl-C or SIGTERM; the second one ends the program at once. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the business of who called
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    listener = threading.Thread(target=_listen, args=(reader, act), daemon=True, name="nodegraph-signals")
    listener.start()
    # set even where a shell has told its background jobs to ignore Ctrl-C
    before = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
    told = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(told)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()
        listener.join()
        reader.close()


def _listen(reader: socket.socket, act: Callable[[], None]) -> None:
    asked = False
    while number := reader.recv(1):
        if number[0] in SIGNALS:
            if asked:
                os._exit(CANCELLED)  # what never looks up would keep an orderly end waiting; what is kept on disk is whole
            asked = True
            threading.Thread(target=act, daemon=True, name="nodegraph-cancel").start()


__all__ = ["on_signal"]
