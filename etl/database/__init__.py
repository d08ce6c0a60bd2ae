"""Databases: connections, tables, migrations, and what each error means to a user."""
