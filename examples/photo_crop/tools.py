"""What cuts photos: here only the plan of the cut, so that the example needs no pictures."""

from __future__ import annotations

from pydantic import BaseModel, Field

from engine import tool


class Box(BaseModel):
    """A part of a picture, in pixels."""

    left: int = Field(ge=0)
    top: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


@tool(effect="none")
def plan_cut(photo: str, box: Box, tall: bool = False) -> dict[str, str | int]:
    """Say which command cuts a part out of a photo.

    Args:
        photo: File name of the photo.
        box: The part that stays.
        tall: Whether the result is meant for a phone held upright.
    """
    stem, _, suffix = photo.rpartition(".")
    form = "tall" if tall else "wide"
    cut = f"{box.width}x{box.height}+{box.left}+{box.top}"
    return {"file": f"{stem}-{form}.{suffix}", "cut": cut, "pixels": box.width * box.height}
