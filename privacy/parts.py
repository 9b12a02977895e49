"""The parts of a report about rows with an image each: how their names begin, and are taken apart."""

TABLE, IMAGES = "table.", "images."
WORDS = {TABLE: "Rows", IMAGES: "Images"}
"""What a part is called where people read."""


def part_of(name: str) -> str:
    """Return the part that a name is about: "table.", "images." or "" where it is about both."""
    return next((part for part in WORDS if name.startswith(part)), "")


def plain(name: str) -> str:
    """Return a name without its part, as reports about one kind of records have it."""
    return name.removeprefix(part_of(name))
