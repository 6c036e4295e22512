"""The sockets that a parent passes to the receiver."""

import os
import socket
from collections.abc import Iterator

import pytest

from receiver import listening
from receiver.errors import MirrorError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as made:
        yield made


def test_the_sockets_of_systemd_are_taken_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = os.dup(listener.fileno())
    monkeypatch.setattr(listening, "FIRST_PASSED", given)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    (taken,) = listening.passed(None)
    with taken:
        assert taken.getsockname() == listener.getsockname()
        assert not taken.get_inheritable()
        assert "LISTEN_FDS" not in os.environ
        assert listening.passed(None) == []


@pytest.mark.parametrize(("pid", "number"), [("1", "1"), ("", "1"), (None, "x"), (None, "")])
def test_what_is_meant_for_another_process_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, pid: str | None, number: str
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid is None else pid)
    monkeypatch.setenv("LISTEN_FDS", number)
    assert listening.passed(None) == []


def test_a_socket_that_does_not_listen_is_refused_in_a_sentence() -> None:
    with socket.socket() as made, pytest.raises(MirrorError, match="it does not listen"):
        listening.passed(made.fileno())


def test_the_identity_is_that_of_the_socket_and_not_of_its_address(listener: socket.socket) -> None:
    own = listening.identity_of([listener])
    if own is None:
        pytest.skip("this system does not say which socket is which")
    with socket.socket(fileno=os.dup(listener.fileno())) as same:
        assert listening.identity_of([same]) == own
    address = listener.getsockname()
    listener.close()
    with socket.create_server(address) as another:
        assert listening.identity_of([another]) != own
    assert listening.identity_of([]) is None


def test_a_queue_that_is_full_is_known(listener: socket.socket) -> None:
    assert not listening.is_overrun(listener)
    waiting = [socket.socket() for _ in range(3)]
    try:
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        assert listening.is_overrun(listener)
    finally:
        for one in waiting:
            one.close()


def test_a_url_names_the_address(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert listening.url_of(listener) == (f"http://127.0.0.1:{port}", port)
