"""FeatureStoreError
├── FeatureStoreUnavailable   no answer in time, no connection, or the breaker is open: nothing is known of the call
└── EmbeddedRedisError        the server of our own does not start
"""


class FeatureStoreError(Exception):
    pass


class FeatureStoreUnavailable(FeatureStoreError):
    """Redis did not answer. Events that were being written may or may not be stored: send them again with ids."""


class EmbeddedRedisError(FeatureStoreError):
    """The embedded server cannot be started or stopped; the message says what to do."""
