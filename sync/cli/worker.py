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
    from sync.process import Process, once_for
    from sync.settings import ProcessSettings, WorkerSettings

    if not once:
        served = Companies(ProcessSettings, company)
        logs.configure()
        await Process(served).run()
        return
    companies = Companies(WorkerSettings, company)
    logs.configure()
    await once_for(companies.settings.values())
