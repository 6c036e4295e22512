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
    from receiver.following import Companies
    from sync.engine import open_engine
    from sync.process import PURPOSE, Process
    from sync.settings import ProcessSettings, WorkerSettings
    from sync.worker import Worker

    if not once:
        served = Companies(ProcessSettings, company)
        logs.configure()
        await Process(served).run()
        return
    companies = Companies(WorkerSettings, company)
    logs.configure()
    for settings in companies.settings.values():
        async with open_engine(settings, PURPOSE) as engine:
            await Worker(engine).once()
