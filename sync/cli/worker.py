"""The command `worker`: the process that applies, verifies and sweeps."""

from receiver import logs
from sync.cli.company import Company


async def worker(*, once: bool = False, company: Company = None) -> None:
    """Apply deliveries to the mirror and keep it right: the second process of the Procfile.

    Parameters
    ----------
    once
        Apply all that is pending, do what verification and sweep are due, and end.
    """
    from sync.engine import open_engine
    from sync.settings import WorkerSettings
    from sync.worker import Worker

    settings = WorkerSettings.load(company)
    logs.configure()
    async with open_engine(settings, "kounta-mirror worker") as engine:
        await (Worker(engine).once() if once else Worker(engine).run())
