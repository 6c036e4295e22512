"""A local Kounta, with faults, for trying and testing. It imports nothing of the rest of the project."""

from sync.sandbox.app import create_app
from sync.sandbox.company import Company
from sync.sandbox.courier import Courier
from sync.sandbox.sandbox import Sandbox
from sync.sandbox.serving import PortTakenError, running, serving
from sync.sandbox.settings import Faults, OptionError, Settings
from sync.sandbox.transport import AppTransport

__all__ = [
    "AppTransport",
    "Company",
    "Courier",
    "Faults",
    "OptionError",
    "PortTakenError",
    "Sandbox",
    "Settings",
    "create_app",
    "running",
    "serving",
]
