"""Whether the daemon is alive and complete, for the tools that people already have.

`metrics` counts what happens; `condition` looks at what the ledger says; `health` serves both
over HTTP. Nothing here is imported unless something is to be watched.
"""
