"""The roles of docs/operating.md, made by the statements that stand there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from tests import TOP

_SECTION = (TOP / "docs" / "operating.md").read_text().split("### Roles\n")[1].split("\n### ")[0]
#: The statements for PostgreSQL, and those for MySQL and MariaDB.
STATEMENTS = re.findall(r"^```sql\n(.*?)^```", _SECTION, re.M | re.S)
#: The commands that use them.
[COMMANDS] = re.findall(r"^```sh\n(.*?)^```", _SECTION, re.M | re.S)
NAMES = ("audit_owner", "audit_writer", "audit_reader")


@dataclass(frozen=True)
class Roles:
    """Three roles of a database, whose names end as the database's does.

    Attributes:
        admin: as a superuser, each statement by itself.
    """

    admin: sa.Engine

    @property
    def kind(self) -> str:
        """The dialect."""
        return self.admin.dialect.name

    def name(self, role: str) -> str:
        """What the role is called here."""
        return f"audit_{role}_{str(self.admin.url.database)[-8:]}"

    def url(self, role: str) -> str:
        """The database's URL for the role."""
        user = self.admin.url.set(username=self.name(role), password="a-password")
        return user.render_as_string(hide_password=False)

    def execute(self, *statements: str, role: str | None = None) -> None:
        """Run statements as a role, or as a superuser."""
        engine = self.admin
        if role:
            engine = sa.create_engine(
                self.url(role), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
            )
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    def make(self, leave_out: str = "nothing") -> None:
        """Run the document's statements but for one that begins so."""
        text = STATEMENTS[self.kind != "postgresql"].replace(
            "ON audit.*", f"ON {self.admin.url.database}.*"
        )
        for name in NAMES:
            text = text.replace(name, self.name(name.removeprefix("audit_")))
        for statement in text.split(";\n")[:-1]:
            if not statement.startswith(leave_out):
                self.execute(statement)

    def drop(self) -> None:
        """Drop them, and what the owner has in the database."""
        for name in NAMES:
            role = self.name(name.removeprefix("audit_"))
            if self.kind == "postgresql":
                self.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
            else:
                self.execute(f"DROP USER {role}@'%'")


@contextmanager
def roles_of(url: str) -> Iterator[Roles]:
    """The roles of a database, to be made, dropped afterwards."""
    roles = Roles(sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool))
    try:
        yield roles
    finally:
        roles.drop()
