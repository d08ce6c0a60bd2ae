"""A database server that declines TLS and asks for the password as it is; a program of its own.

`python -m tests.support.plaintext_server postgresql|mariadb HOST PORT` writes `ready`, then all
that it hears.
"""

import socket
import struct
import sys
from contextlib import suppress

#: Requests of PostgreSQL's clients for TLS and for GSSAPI, before all else.
_OFFERS = {80877103, 80877104}
_CLEAR = b"mysql_clear_password\0"
#: Protocol 4.1, secure connection, plugins; all but TLS.
_CAPABILITIES = 0x0200 | 0x8000 | 0x0008 | 0x2000 | 0x80000


def _heard(client: socket.socket) -> bytes:
    data = client.recv(65536)
    sys.stdout.write(f"{data!r}\n")
    sys.stdout.flush()
    return data


def postgresql(client: socket.socket) -> None:
    """Decline each offer, ask for a password in clear, take it and hang up."""
    while len(data := _heard(client)) == 8 and struct.unpack("!ii", data)[1] in _OFFERS:
        client.sendall(b"N")
    client.sendall(b"R" + struct.pack("!ii", 8, 3))
    _heard(client)


def mariadb(client: socket.socket) -> None:
    """Greet without TLS, switch to a password in clear, take it and hang up."""
    low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
    greeting = b"\x0a5.5.5-10.11.0-MariaDB\0" + struct.pack("<I", 1) + b"s" * 8 + b"\0"
    greeting += struct.pack("<HBHHB", low, 45, 2, high, 21) + b"\0" * 10 + b"s" * 12 + b"\0"
    greeting += b"mysql_native_password\0"
    client.sendall(struct.pack("<I", len(greeting)))
    client.sendall(greeting)
    _heard(client)
    switch = b"\xfe" + _CLEAR
    client.sendall(struct.pack("<I", len(switch) | 2 << 24) + switch)
    _heard(client)


def main(kind: str, host: str, port: str) -> None:
    """Serve one client after the other."""
    speak = {"postgresql": postgresql, "mariadb": mariadb}[kind]
    with socket.create_server((host, int(port))) as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            with client, suppress(OSError):
                speak(client)


if __name__ == "__main__":
    main(*sys.argv[1:])
