"""The configuration: defaults, then a TOML file, then the vendor's variables, then our own.

`load` either gives settings that have been checked whole, or one error that tells everything that
is wrong. Nothing is connected and no folder is made; only files that `*_file` settings name are
read. Secrets are in no repr, no row and no message.
"""

from etl.config.loading import example, load
from etl.config.organizations import OrganizationSettings
from etl.config.scheduling import Schedule
from etl.config.settings import Settings, setting_rows

__all__ = ["load", "example", "setting_rows", "Settings", "OrganizationSettings", "Schedule"]
