"""Runs a plan in memory: virtual time, no server; for `dry-run` and for tests of tasks."""
