"""Ctrl-C and SIGTERM are heard whatever the main thread is doing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from nodegraph import collector

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals between threads are those of POSIX")


def said_by(script: str) -> subprocess.CompletedProcess[str]:
    begin = "import os, signal, threading\nfrom nodegraph.cli.signals import on_signal\n"
    begin += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
    return subprocess.run([sys.executable, "-c", begin + textwrap.dedent(script)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_main_thread_waits_and_is_not_woken(number: signal.Signals) -> None:
    """As when the signal comes just before it waits: another thread takes it, and the wait goes on."""
    done = said_by(
        f"""
        heard = threading.Event()
        with on_signal(heard.set):
            signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])
            os.kill(os.getpid(), {int(number)})
            print(heard.wait(30))
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_what_is_told_may_need_what_the_main_thread_holds() -> None:
    done = said_by(
        """
        lock, heard = threading.Lock(), threading.Event()
        def act():
            with lock:
                heard.set()
        with on_signal(act):
            with lock:
                os.kill(os.getpid(), signal.SIGINT)
                print(heard.wait(0.2))
            print(heard.wait(30))
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("False\nTrue\n", "", 0)


def test_the_second_ends_at_once() -> None:
    done = said_by(
        """
        heard = threading.Event()
        def act():
            heard.set()
            threading.Event().wait()
        with on_signal(act):
            os.kill(os.getpid(), signal.SIGINT)
            heard.wait(30)
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(30)
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


def test_afterwards_all_is_as_before() -> None:
    done = said_by(
        """
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count()
        with on_signal(print):
            pass
        print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), threading.active_count()) == before)
        print(signal.set_wakeup_fd(-1))
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(30)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n-1\ninterrupted\n", "", 0)


def test_elsewhere_signals_are_the_business_of_who_called() -> None:
    done = said_by(
        """
        def run():
            with on_signal(print):
                print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_an_interrupt_at_any_moment_leaves_the_garbage_collector_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that came right behind its being held left it so for good: a notebook whose kernel is interrupted goes on without it."""
    hold = gc.disable

    def interrupted() -> None:
        hold()
        raise KeyboardInterrupt

    monkeypatch.setattr(gc, "disable", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), collector.held():
            pass
        assert gc.isenabled()
    finally:
        gc.enable()
