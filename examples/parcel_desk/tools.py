"""What the parcel desk can look up; the docstrings are what a model is told about it."""

from __future__ import annotations

from typing import Literal, TypedDict

from engine import tool

PARCELS = {"P-100": "It left the depot in Lyon this morning.", "P-200": "It was handed to a neighbour, Mr Duval."}
HOURS = {"weekday": "8:00 to 18:00", "saturday": "9:00 to 13:00", "sunday": "closed"}


class Parcel(TypedDict):
    """What is known of a parcel."""

    number: str
    state: str


@tool(effect="read")
def find_parcel(number: str) -> Parcel:
    """Say where a parcel is.

    Args:
        number: Number of the parcel, such as P-100.
    """
    return {"number": number, "state": PARCELS.get(number, "There is no parcel of that number.")}


@tool(effect="none")
def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
    """Say when the desk is open.

    Args:
        day: Which day is asked about.
    """
    return HOURS[day]
