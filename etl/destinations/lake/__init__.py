"""Audits as Parquet files, one a partition, on a local file system or an object store.

`columns` makes Arrow tables of audits, `merging` merges sorted ones, `staging` holds what is not
published yet, `storage` publishes whole files, `bucket` speaks to an object store, and
`destination` puts them in order.
"""
