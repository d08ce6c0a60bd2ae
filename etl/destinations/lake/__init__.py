"""Audits as Parquet files, one a partition, on a local file system or an object store.

`columns` makes Arrow tables of audits, `merging` merges sorted ones, `staging` holds what is not
published yet, `storage` publishes whole files, `bucket` speaks to an object store, and
`destination` puts them in order.
"""

import os

# Before Arrow is loaded: its own pools keep what was freed, 60 MiB more of a process at its peak.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
