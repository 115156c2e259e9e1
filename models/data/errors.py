"""What can go wrong between a team's files and a prepared dataset.

DataError
├── ConfigError    shortlist.toml cannot be used as it is
├── SourceError    a source file or one of its columns is missing, unreadable or of the wrong kind
├── BadRowsError   more bad rows than limits.max_bad_share allows, or none left
└── DatasetError   a prepared dataset on disk is damaged or was made by another version
"""


class DataError(Exception):
    """Every message names the file and what to do next."""


class ConfigError(DataError):
    pass


class SourceError(DataError):
    pass


class BadRowsError(DataError):
    pass


class DatasetError(DataError):
    pass
