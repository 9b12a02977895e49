"""Read an upload that is a table, CSV or Parquet, into the blobs of a dataset version."""

from workers.intake.tables.upload import read_table_upload

__all__ = ["read_table_upload"]
