"""audit-etl: the audit log of Genesys Cloud organisations, copied and kept complete.

Read `pipeline` first: it is the program. Then `window`, `ledger`, `records`, and the two ends,
`genesys` and `destinations`.
"""

import os

# Before any module loads Arrow: its own pool keeps what was freed, 35 MiB at a query's peak.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

__version__ = "0.1.0"
