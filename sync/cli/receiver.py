from __future__ import annotations


def receiver(*, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Receive webhooks: verify each delivery, store it, answer.

    Parameters
    ----------
    host
        The address to listen at; 0.0.0.0 is every one of this machine.
    port
        The port; 0 takes a free one, and the log names it.
    """
    from receiver.server import serve
    from receiver.settings import ReceiverSettings

    serve(ReceiverSettings.load(), host, port)
