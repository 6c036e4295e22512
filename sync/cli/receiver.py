from __future__ import annotations

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations


def receiver(
    *, host: str = "127.0.0.1", port: int = 8000, fd: int | None = None, company: Company = None
) -> None:
    """Receive webhooks: verify each delivery, store it, answer.

    With a mirror.toml it serves every company that has a table in it, and follows the file; with --company
    that one alone.

    Parameters
    ----------
    host
        The address to listen at; 0.0.0.0 is every one of this machine.
    port
        The port; 0 takes a free one, and the log names it.
    fd
        The number of a descriptor instead: a socket that listens, which the parent process keeps open while
        the receiver restarts. A socket unit of systemd passes one without this.
    """
    from receiver.following import Companies
    from receiver.server import serve
    from receiver.settings import ReceiverSettings

    serve(Companies(ReceiverSettings, company), host, port, fd=fd)
