"""How large the pieces are that work is cut into: what is in memory or in one statement."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The most of each kind. One audit or page that is larger is a piece by itself.

    Attributes:
        waiting_bytes: one query's pages that wait to be decoded.
        decoded_bytes: raw JSON whose rows wait to be loaded. Twice as much is hardly quicker.
        group_bytes: raw JSON of one SQL transaction: about 10,000 usual audits. Half as much takes
            SQLite a fifth to a third longer, and 30 MiB less.
        held_rows: rows that are fetched together when ids are compared.
        listed_keys: keys of one statement where each is a parameter of its own.
        sqlite_values: values in one statement of SQLite's. Far fewer interrupt the threads that
            make rows too often, far more fall out of the processor's cache.
        mysql_bytes: one statement of MySQL's and MariaDB's: a sixteenth of a server's default.
        hexadecimal_characters: longer texts are not written in hexadecimal digits.
        batch_rows, answer_rows: a database's and a lake's answer that is in memory.
        row_group_rows, row_group_bytes: a row group, and a page of each column in it: what is in
            memory while a file is written. With twice the bytes, a tick grows by 20 %.
        read_rows, read_bytes: what is read of a file at once.
        run_rows, run_bytes: what is in memory of a run while it is merged.
        fan_in: so many runs of a partition become one, so that few are merged at once.
    """

    waiting_bytes: int = 4 * 1024 * 1024
    decoded_bytes: int = 4 * 1024 * 1024
    group_bytes: int = 16 * 1024 * 1024
    held_rows: int = 5_000
    listed_keys: int = 900
    sqlite_values: int = 6_144
    mysql_bytes: int = 1_000_000
    hexadecimal_characters: int = 256 * 1024
    batch_rows: int = 5_000
    answer_rows: int = 1_000
    row_group_rows: int = 50_000
    row_group_bytes: int = 8 * 1024 * 1024
    read_rows: int = 1_000
    read_bytes: int = 2 * 1024 * 1024
    run_rows: int = 500
    run_bytes: int = 1024 * 1024
    fan_in: int = 8
