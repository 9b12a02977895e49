"""Rows, then images: each row of the table is drawn first, its image is drawn given what the row says.

**Idea.** One part of the budget buys a graphical model of the table (AIM, or MST). The rest describes
the images by one-shot releases, as *statistics* does: the mean image; per cell and side, the mean
direction away from it; the shared second moment of what is left; per cell, how often each grey
level occurs. A *cell* is what a row holds in the columns that the schema names in
`images.condition_on`, so those columns decide what an image shows. A row is drawn from the first model, and
its image from the Gaussian of the row's cell. What an image shows beyond its cell is not tied to
the other columns of its row.

**Sensitivity.** Rows and images belong to the same persons, and each release sums one
contribution per person. In the table a person's rows weigh 1 together; in every release about images the
average over a person's images is clipped to L2 norm 1 as a whole, whichever cells they lie in. Adding
or removing a person changes any of these sums by at most 1, however many rows the person has.

**Budget.** One ordered list of mechanisms: quanta of zCDP for the rows, then the releases of the
images. Each is charged before it runs, and neither part can spend what the other reserved. A stopped
run goes on in the part where it stopped, with what is left.

**When not.** Cells with few persons have images like those of other cells, and the fit says so. A
budget with which no relation between columns can be measured is refused before it is charged.

**Sources.** McKenna, Mullins, Sheldon and Miklau 2022, arXiv:2201.12677 (AIM); Dwork et al. 2014,
Analyze Gauss (noised second moment); Li et al. 2025, DP-FETA (noised central images).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from privacy.errors import InvalidParameter
from privacy.image_parts import factors_of, image_labels, image_schema
from privacy.mechanisms import Mechanism, Stage, ZcdpStage
from privacy.presets import Preset, Settings
from privacy.table_schema import Codes, TableSchema
from training.checkpoints import Arrays
from training.generators import SampleProgress, aim, mst, statistics
from training.joint_records import JointRecords
from training.moments import count_noise
from training.ranks import Ranks
from training.records import pixel_type
from training.run import Run
from training.run_parts import RunParts
from training.tables.fitted import NOTHING_FOUND
from training.tables.fitted import Fitted as FittedRows
from training.tables.rounds import Purse
from training.tables.worth import refuse_the_hopeless

MODALITY = "joint"
QUANTA = aim.QUANTA
_ENGINES: dict[str, Any] = {"aim": aim, "mst": mst}
_ROWS, _IMAGES = "rows", "images"
_AT_ONCE = 4096
"""Records drawn or scored together, so that only pixels of 8 or 16 bits are held for all."""
_ROWS_LOOKED_AT = 4000
# A cell's noised number of persons must exceed its noise so many times to say that anybody is there.
_STANDS_OUT = 3.0
_WORTH_SAYING = 0.01
_REMEDY = (
    "Lower row_noise_ratio, declare coarser bins or fewer columns, or ask for a larger epsilon."
)


class Config(statistics.Config):
    """What a data owner may set; every default was chosen on phantoms."""

    rows: Literal["aim", "mst"] = Field(
        default="aim", description="The model of the table: adaptive, or one tree (aim, mst)."
    )
    row_noise_ratio: float = Field(
        default=1.4,
        ge=1,
        le=100,
        description="Noise of the table, relative to spending the whole target on it (ratio).",
    )
    row_model_megabytes: float = Field(
        default=0.5, gt=0, le=64, description="Memory of the table's model (MB)."
    )

    @property
    def row_config(self) -> aim.Config | mst.Config:
        """Return the settings of the table's model."""
        kind: type[aim.Config | mst.Config] = _ENGINES[self.rows].Config
        return kind(model_megabytes=self.row_model_megabytes)


STAGES: tuple[Stage, ...] = (
    ZcdpStage(stage="rows", steps=QUANTA, noise_ratio="row_noise_ratio"),
    *statistics.STAGES,
)
_FEW: Settings = {"rows": "mst"}
PRESETS = {
    "quick": Preset(summary="One tree of columns and four releases of images.", settings=_FEW),
    "balanced": Preset(
        summary="The adaptive model of the table; seconds to a minute.", settings={}
    ),
    "best": Preset(summary="A larger model of the table.", settings={"row_model_megabytes": 2.0}),
}
SUITS_FROM = 0.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model of the table, and a Gaussian of images for each of its cells."""

    config: Config
    schema: TableSchema
    rows: FittedRows
    pictures: statistics.Fitted
    mechanisms: tuple[Mechanism, ...] = ()

    def sample(
        self, count: int, *, seed: int, progress: SampleProgress | None = None
    ) -> tuple[Codes, NDArray[np.integer]]:
        """Draw rows and the image of each, the same for the same seed.

        Shapes: result (count, D) int16 and (count, H, W).
        """
        codes = self.rows.sample(count, seed=seed)
        cells = image_labels(self.schema, codes)
        declared = self.pictures.schema
        images = np.empty((count, declared.height, declared.width), dtype=pixel_type(declared))
        for number, block in enumerate(_blocks(count)):
            own = _derived(seed, number)
            images[block] = self.pictures.sample(cells[block], seed=own)
            if progress is not None:
                progress(min(block.stop, count), count)
        return codes, images

    def score(
        self, codes: NDArray[np.integer], images: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return scores; higher = more likely a member. Shapes: (N, D), (N, H, W) -> (N,) each.

        Names begin with `row_` or `image_` for what one part says; `log_density` is of both: that of
        the row, and of its image given the row.
        """
        of_rows = self.rows.score(codes, seed=seed)
        cells = image_labels(self.schema, codes)
        parts = [
            self.pictures.score(np.asarray(images[block]), cells[block], seed=seed)
            for block in _blocks(len(codes))
        ]
        of_images = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {
            "log_density": of_rows["log_density"] + of_images["log_density"],
            **{f"row_{name}": values for name, values in of_rows.items()},
            **{f"image_{name}": values for name, values in of_images.items()},
        }

    def warnings(self) -> tuple[str, ...]:
        """Return what the owner should know about this fit, from noised numbers alone."""
        found = [
            "No measured relation between columns stands out of its noise: rows are no better than "
            f"independent columns. {_REMEDY}"
            if sentence == NOTHING_FOUND
            else sentence
            for sentence in self.rows.warnings()
        ]
        return (*found, *self._faint_cells())

    def state(self) -> Arrays:
        """Return the arrays of both parts."""
        return {f"{_ROWS}/{k}": v for k, v in self.rows.state().items()} | {
            f"{_IMAGES}/{k}": v for k, v in self.pictures.state().items()
        }

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(
            self,
            mechanisms=mechanisms,
            rows=self.rows.with_mechanisms(mechanisms[:1]),
            pictures=self.pictures.with_mechanisms(mechanisms[1:]),
        )

    def _faint_cells(self) -> tuple[str, ...]:
        """Say how many rows are in cells that were measured with too few persons to have a mean."""
        noise = next((m for m in self.mechanisms if m.stage == "class_means"), None)
        if noise is None:
            return ()
        counts = self.pictures.model.counts
        limit = _STANDS_OUT * sqrt(counts.shape[1]) * count_noise(noise.noise_multiplier)
        faint = np.flatnonzero(counts.sum(axis=1) < limit)
        drawn = image_labels(self.schema, self.rows.sample(_ROWS_LOOKED_AT, seed=0))
        share = float(np.isin(drawn, faint).mean())
        if share < _WORTH_SAYING:
            return ()
        named = self.pictures.schema.labels
        sentence = (
            f"About {share:.0%} of the rows are in {len(faint)} of {len(named)} cells with too few "
            f"persons for images of their own ({named[faint[0]]!r} is one): their images are like "
            "those of other cells. Name fewer columns in images.condition_on, or coarser ones."
        )
        return (sentence,)


def from_state(state: Arrays, *, config: Config, schema: TableSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    rows, pictures = (
        {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        for start in (f"{_ROWS}/", f"{_IMAGES}/")
    )
    return Fitted(
        config=config,
        schema=schema,
        rows=_ENGINES[config.rows].from_state(rows, config=config.row_config, schema=schema),
        pictures=statistics.from_state(pictures, config=config, schema=image_schema(schema)),
    )


def fit(
    records: JointRecords, config: Config, *, schema: TableSchema, run: Run, seed: int
) -> Fitted:
    """Fit the table, then the images given the cells of their rows, within what `run` has reserved.

    Raises: InvalidParameter if the records or the settings contradict the schema, or if the budget
    or the constraints are hopeless; ReleaseLost on a resume whose measured results are gone.
    """
    Ranks.here().refuse_several("Rows and then images")
    _refuse_grades_without_order(schema, config)
    records = records.checked(schema)
    parts = RunParts(run)
    table = parts.part(_ROWS, range(1))
    refuse_the_hopeless(schema, Purse(table).mechanism, remedy=_REMEDY)
    engine = _ENGINES[config.rows]
    rows = engine.fit(records.table, config.row_config, schema=schema, run=table, seed=seed)
    pictures = statistics.fit(
        records.images,
        config,
        schema=image_schema(schema),
        run=parts.part(_IMAGES, range(1, len(run.mechanisms))),
        seed=seed,
        factors=factors_of(schema),
    )
    return Fitted(
        config=config, schema=schema, rows=rows, pictures=pictures, mechanisms=run.mechanisms
    )


def _refuse_grades_without_order(schema: TableSchema, config: Config) -> None:
    """Refuse to teach cells as grades unless they are the levels of one column that has an order."""
    named = schema.images.condition_on if schema.images is not None else ()
    are_ordered = [
        not (column.kind == "category" or column.missing or column.other)
        for column in map(schema.column, named)
    ]
    if config.teacher_labels == "nominal" or are_ordered == [True]:
        return
    raise InvalidParameter(
        f'teacher_labels = "{config.teacher_labels}" was refused: images are drawn for '
        f"{' and '.join(repr(name) for name in named)}, and only the cells of one column follow one "
        "another, which is ordinal or of numbers and takes neither missing cells nor other levels. "
        'Set teacher_labels = "nominal", or name one such column in images.condition_on.'
    )


def _blocks(count: int) -> Iterator[slice]:
    """Yield slices over `count` records, one of them empty where there are none."""
    for start in range(0, max(count, 1), _AT_ONCE):
        yield slice(start, start + _AT_ONCE)


def _derived(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
