"""What each table and each column means: plain texts for PostgreSQL's comments and the documents.

A text is a phrase without a full stop. It names units, the clock of a time, what null means, and
the record's member where a column has another name.
"""

from typing import Final

#: What a table has one row for.
TABLES: Final = {
    "audit_events": "audit, with raw: the record as it was received, nothing dropped; null in "
    "another column means that the record has no value there, or an empty text",
    "audit_property_changes": "property that an audit changed, in the record's order",
    "audit_entity_changes": "further entity that an audit changed, in the record's order",
    "early_audits": "audit that was loaded early, from the realtime query, and that no window has "
    "confirmed yet",
    "audit_services": "service, entity type and action that the organisation can audit, by the "
    "vendor's service mapping",
    "audit_rejects": "record that cannot be a row of audit_events, usually because it has no id or "
    "no time, with the reason",
    "watermarks": "stream: how far it is sure",
    "receipts": "window that was loaded whole, and each time that it was",
    "void_receipts": "receipt that no longer counts: it claimed time that was not over, by a wrong "
    "clock, or is about a lake or an organisation that is no longer the one (migrate --adopt)",
    "late_arrivals": "month, service and step of lateness: how many audits became visible after "
    "their time was loaded",
    "verifications": "window whose ids were compared with the organisation's, and what was found",
    "queries": "query of a run that is under way, or failed: windows that could not be loaded yet",
    "retention": "organisation whose older audits were removed here, and up to which time",
    "identities": "thing that must be the same at each run: the ledger, the lake, the organisation "
    "behind a name",
    "leases": "right that one process has at a time: to export a stream, to write a lake, to do "
    "a daemon's work for an organisation; it is free once expires_at is past",
}

#: Columns that mean the same in each table that has them, unless `COLUMNS` says otherwise.
SHARED: Final = {
    "organization": "the organisation's name in the configuration",
    "stream": "the service that the stream exports; * for all services in one query",
    "window_start": "start of the window of event time, UTC; the window includes it",
    "window_end": "end of the window of event time, UTC; the window does not include it",
    "schedule": "what caused the query: the name of a schedule, manual (run --lookback), or "
    "backfill (also verify --repair)",
    "event_id": "id of the audit in audit_events",
    "event_date": "event_date of the audit, UTC, milliseconds",
    "position": "place of the change in the record's list, from 0",
    "old_values": "values before the change, a JSON list of texts; null if the record has none",
    "new_values": "values after the change, a JSON list of texts; null if the record has none",
    "raw": "the record as it was received, nothing dropped",
    "loaded_at": "when the row was inserted, UTC, by the clock of the machine that loaded it",
}

_RECEIPT: Final = {
    "receipt_id": "number in the order of the loads; may have gaps",
    "query_id": "the vendor's id of the query (transactionId)",
    "events": "audits of the window that the query gave; one that it gave twice counts twice",
    "new_events": "audits that were not held before, those outside of the window included",
    "rejects": "records of the query that cannot be audits; see audit_rejects",
    "requests": "HTTP requests that the window cost, polls and retries included",
    "started_at": "when the query was created, UTC, by the organisation's clock",
    "loaded_at": "when the last row was loaded, UTC, by the organisation's clock",
    "repeated": "how many of events the query had given before; null if 0.1.0 wrote the receipt",
}

#: By table, what its own columns mean, and shared ones that mean something else there.
COLUMNS: Final = {
    "audit_events": {
        "id": "the vendor's id of the audit, unique in the organisation",
        "event_date": "when the service logged it, perhaps minutes after the change; UTC, "
        "milliseconds (finer digits are cut off); eventDate, or eventTime if there is none",
        "service_name": "service that logged the audit, such as Directory; first 512 characters",
        "action": "what was done, such as Create, Update or Delete",
        "entity_type": "type of the entity that it was done to, such as User or Queue",
        "entity_id": "id of that entity (entity.id); first 512 characters",
        "entity_name": "name of that entity (entity.name)",
        "level": "USER, SYSTEM or GENESYS_INTERNAL",
        "status": "SUCCESS, FAILURE or WARNING",
        "application": "application that was used for the action",
        "user_id": "who did it, a user or an OAuth client (user.id, or userId); first 512 "
        "characters; null if the record names no one, as with level SYSTEM",
        "user_name": "name of that user (user.name, or userDisplay); null too where Genesys gives "
        "none, as with expand_user off",
        "user_home_org_id": "the vendor's id of the organisation that the user belongs to",
        "client_id": "OAuth client by which it was done (client.id, or clientId.id); first 512 "
        "characters",
        "message": "description of the event, perhaps with placeholders (message.message)",
        "message_params": "values of the placeholders, a JSON map of texts (message.messageParams)",
        "transaction_id": "id of the audit that began the transaction "
        "(initiatingAction.transactionId)",
        "transaction_action": "action of the audit that began the transaction "
        "(initiatingAction.actionContext)",
        "transaction_initiator": "whether this audit began the transaction; null if the record "
        "does not say",
        "remote_ips": "addresses of the systems that sent or handled the request, a JSON list of "
        "texts (remoteIp)",
        "context": "what else the service says of the event, a JSON map of texts",
    },
    "audit_property_changes": {
        "property": "the vendor's name of the property, which may contain ids",
    },
    "audit_entity_changes": {
        "entity_type": "type of the changed entity",
        "entity_id": "id of the changed entity; first 512 characters",
        "entity_name": "name of the changed entity",
    },
    "early_audits": {
        "id": "id of the audit in audit_events",
    },
    "audit_services": {
        "service": "name of the service; audits have it as service_name",
        "entity_type": "a type of entity of that service",
        "action": "an action on entities of that type",
        "realtime": "whether the realtime query knows this combination, too",
        "first_seen": "when `audit-etl services` first found it, UTC",
        "last_seen": "when `audit-etl services` last found it, UTC; earlier than that of others if "
        "the organisation no longer has it",
    },
    "audit_rejects": {
        "digest": "SHA-256 of raw, in hexadecimal digits: a record that comes twice is kept once",
        "reason": "why the record cannot be an audit",
        "received_at": "when it was first received, UTC, by the clock of the machine that loaded "
        "it",
    },
    "watermarks": {
        "begins_at": "event time from which the stream is exported, UTC",
        "watermark": "each audit with begins_at <= event_date < watermark is loaded, as far as the "
        "organisation showed it; UTC",
        "updated_at": "when this row was last changed, UTC",
    },
    "receipts": _RECEIPT,
    "void_receipts": _RECEIPT
    | {
        "receipt_id": "number that the receipt had in receipts; SQLite may use it for another one",
        "voided_at": "when the receipt was found to be void, UTC",
    },
    "late_arrivals": {
        "month": "when the query that brought the audits was created, YYYY-MM, UTC",
        "service": "service_name of the audits; empty if they have none",
        "over_seconds": "lower bound of the delay from event_date to that query, in seconds: 0, "
        "900, 3600 (an hour), 21600, 86400 (a day), 259200, 604800 (a week), 1209600 or 2592000",
        "audits": "how many audits came later than that, and not later than the next bound",
    },
    "verifications": {
        "verification_id": "number in the order of the verifications; may have gaps",
        "events": "audits of the window that the organisation showed",
        "missing": "how many of these the destination did not have",
        "extra": "audits that the destination has and the organisation did not show: as a rule it "
        "has forgotten them",
        "repaired": "how many of the missing audits were loaded by the same command (--repair)",
        "verified_at": "when the window was compared, UTC, by the organisation's clock",
        "verified_by": "program that compared, with its version; null for 0.1.0",
    },
    "queries": {
        "query_id": "the vendor's id of the query (transactionId); empty if the organisation "
        "accepted none",
        "asked_at": "when the query was created, UTC, by the organisation's clock; the time of "
        "failed_at if it failed",
        "failed_at": "when the window failed, UTC; null while its query is under way",
    },
    "retention": {
        "kept_from": "audits before this event time were removed here, UTC",
        "recorded_at": "when that was recorded, UTC",
    },
    "identities": {
        "kind": "organization (the vendor's id behind a name), client (its OAuth client and API), "
        "ledger, lake, or generation (of the lake: new with each load)",
        "name": "organisation's name in the configuration, for kind organization and client; "
        "before or latest for generation; else empty",
        "identity": "what must be the same; empty if the vendor did not tell the organisation's id",
        "recorded_at": "when this was last known to be so, UTC",
    },
    "leases": {
        "name": "ORGANISATION/STREAM, `the writer of the lake`, or daemon:ORGANISATION",
        "holder": "process that has or had the lease: host, process number, its start, boot of "
        "the machine and container, separated by /",
        "token": "grows each time that the lease is taken; a load commits only with its own token",
        "acquired_at": "when the holder took it, UTC, by the server's clock (SQLite: the "
        "machine's)",
        "expires_at": "when it ends unless it is renewed, UTC, by the same clock",
    },
}


def of_table(table: str) -> str:
    """What a table is, as a sentence without its full stop."""
    return f"One row for each {TABLES[table]}"


def of_column(table: str, column: str) -> str:
    """What a column of a table means."""
    own = COLUMNS[table]
    return own[column] if column in own else SHARED[column]
