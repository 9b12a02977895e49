"""JSON of edits: what of a released set is changed, and what came of it."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.resources import Body, Identifier, Page, Resource

MOST_IMAGES = 60
MOST_STEPS = 25
AttributeName = Literal["exposure", "contrast", "joint_space", "sclerosis"]


class NewEdit(Body):
    """A controlled series, or a teaching set made of one."""

    form: Literal["series", "teaching_set"] = Field(default="series", description="what to make")
    vary: Literal["label"] | AttributeName = Field(description="what changes step by step")
    low: float | None = Field(default=None, description="first value; the set's lowest by default")
    high: float | None = Field(default=None, description="last value; the set's highest by default")
    steps: int = Field(
        default=7, ge=2, le=MOST_STEPS, description="not for the label: one step each"
    )
    label: str | None = Field(default=None, max_length=100, description="the label of every image")
    wanted: dict[AttributeName, float] = Field(default_factory=dict, description="values to set")
    held: list[AttributeName] = Field(default_factory=list, description="kept as they are")
    images: int = Field(default=8, ge=1, le=MOST_IMAGES, description="how many images are edited")
    knees: bool | None = Field(
        default=None, description="rulers for knees; by the label if not said"
    )


class Edit(Resource):
    """An edit that somebody asked for."""

    id: Identifier
    release_id: Identifier
    state: str
    asked: NewEdit
    created_at: datetime
    images: int | None = Field(description="edited images, once done")
    met: float | None = Field(description="share of them that met their specification")
    problem: str | None


class EditPage(Page):
    """Edits, newest first."""

    items: list[Edit]
