"""The demonstration: a local Kounta, the receiver and the worker as real processes, and a comparison."""

from sync.demo.demonstration import Demonstration, Plan

__all__ = ["Demonstration", "Plan"]
