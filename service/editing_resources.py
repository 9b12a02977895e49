"""JSON of edits: what of a released set is changed, and what came of it."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from service.resources import Body, Identifier, Page, Resource

MOST_IMAGES = 60
MOST_STEPS = 25
MOST_MODEL_MEBIBYTES = 128
AttributeName = Literal["exposure", "contrast", "joint_space", "sclerosis"]


class NewEdit(Body):
    """A controlled series, a teaching set made of one, or a classifier's answers along one."""

    form: Literal["series", "teaching_set", "stress_test"] = Field(
        default="series", description="what to make"
    )
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
    model: Identifier | None = Field(
        default=None, description="the uploaded classifier of a stress test"
    )
    white: float = Field(
        default=1.0, gt=0, le=65535, description="what white is for the classifier: 1, or 255"
    )

    @model_validator(mode="after")
    def _a_stress_test_has_a_model(self) -> Self:
        """Refuse a stress test without a model, and a model that nothing would run."""
        if (self.form == "stress_test") != (self.model is not None):
            raise ValueError("a stress test needs a model, and only a stress test takes one")
        return self


class UploadedModel(Resource):
    """A classifier that waits for its stress test; kept a day at most, and fetched by nobody."""

    id: Identifier


class Edit(Resource):
    """An edit that somebody asked for."""

    id: Identifier
    release_id: Identifier
    state: str
    asked: NewEdit
    created_at: datetime
    images: int | None = Field(description="edited images, once done")
    met: float | None = Field(description="share of them that met their specification")
    changed: float | None = Field(
        default=None, description="of a stress test: share of images whose answer changes"
    )
    problem: str | None


class EditPage(Page):
    """Edits, newest first."""

    items: list[Edit]
