"""audit-etl: the audit log of Genesys Cloud organisations, copied and kept complete.

Read `pipeline` first: it is the program. Then `window`, `ledger`, `records`, and the two ends,
`genesys` and `destinations`.
"""

__version__ = "0.1.0"
