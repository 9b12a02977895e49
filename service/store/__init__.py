"""Database, journal, keys and object storage; the only SQL and the only S3."""
