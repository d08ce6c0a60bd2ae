"""The client of a Genesys Cloud organisation, the only part of the program that speaks HTTP.

`query.AuditSource` is what an export asks. Below it: `audits.AuditApi`, one method for each
operation; `transport.Transport`, which sends, waits and tries again; and what that needs.
Everything here may be used from several threads: each thread has an HTTP session of its own, the
token, the rate budget and the counts are shared behind locks.
"""
