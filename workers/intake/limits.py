"""State every limit of intake in one place, each with its unit and its reason."""

from dataclasses import dataclass

from privacy.manifests import DatasetSchema
from privacy.table_schema import TableSchema

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What an upload may hold. The defaults carry a million small radiographs."""

    # Files in an archive: the directory of a zip is held in memory while it is read.
    archive_entries: int = 1_000_000
    # Bytes of all files after unpacking; intake streams them, so this bounds time.
    expanded_bytes: int = 256 * 1024 * MIB
    # Unpacked size ÷ packed size. Deflate cannot exceed 1032; radiographs stay under 50.
    expansion_ratio: int = 200
    # Below this unpacked size a ratio says nothing: a column of equal labels packs 300 times.
    ratio_free_bytes: int = 8 * MIB
    # One PNG, JPEG or DICOM file, headers included.
    image_file_bytes: int = 128 * MIB
    # The CSV beside images: a million rows of a hundred bytes.
    table_bytes: int = 256 * MIB
    # A table by itself, unpacked: a million rows of a few kilobytes.
    table_expanded_bytes: int = 8 * 1024 * MIB
    # Columns of a table, the undeclared ones counted in.
    table_columns: int = 10_000
    # One cell of a CSV or a table, or one patient id.
    cell_characters: int = 256
    # Members and folders of a name, counted together.
    name_characters: int = 255
    # Records of one upload.
    records: int = 5_000_000
    # Fewer persons (or images, when the unit is the record) than this cannot be hidden among.
    minimum_units: int = 50
    # The real count may differ from the declared one by this factor either way: sampling rate,
    # noise and divisors come from the declared count, and a wrong one wastes the budget.
    declared_count_factor: int = 2
    # Pairs of files that a report about duplicates names.
    duplicate_examples: int = 5

    def unit_range(self, schema: DatasetSchema | TableSchema) -> tuple[int, int]:
        """Return the fewest and the most units that an upload under `schema` may hold."""
        declared, factor = schema.declared_count, self.declared_count_factor
        return max(self.minimum_units, declared // factor), declared * factor
