"""Ctrl-C while processes are started: whichever thread the signal reaches, it is late and not lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
from eod_operator.simulate.compare import _uninterrupted


def _taken_by_another_thread() -> None:
    """The kernel gives a signal to any thread that does not hold it back: to a progress bar's, say."""
    ready, go, done = threading.Event(), threading.Event(), threading.Event()

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        ready.set()
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        done.set()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        ready.wait()
        go.set()
        done.wait()
    finally:
        thread.join()


def _interrupted_here() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.mark.parametrize("interrupt", [_taken_by_another_thread, _interrupted_here])
def test_an_interrupt_waits_for_the_end_whichever_thread_takes_it(interrupt: Callable[[], None]) -> None:
    went = []

    def starts() -> None:
        with _uninterrupted():
            interrupt()
            went.append("on")

    with pytest.raises(KeyboardInterrupt):
        starts()
    assert went == ["on"]


def test_without_an_interrupt_everything_is_as_before() -> None:
    handler, mask = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with _uninterrupted():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_threads_that_may_set_no_handler_hold_back_their_own() -> None:
    seen = []

    def one() -> None:
        with _uninterrupted():
            seen.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    thread = threading.Thread(target=one)
    thread.start()
    thread.join()
    assert seen == [True]
