"""The check-up of an installation: each thing looked at, what was found, what to do."""
