"""The replica: the only part of `sync` that knows SQL."""
