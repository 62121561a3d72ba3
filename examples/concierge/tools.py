"""What the concierge of a hotel can do: look for tables, and book one."""

from __future__ import annotations

from typing import TypedDict

from engine import tool

RESTAURANTS = {"Chez Lou": ["19:00", "21:00"], "Il Forno": ["20:00"], "The Reef": []}


class Table(TypedDict):
    """A table that was booked."""

    restaurant: str
    time: str
    persons: int


@tool(effect="read")
def free_tables(restaurant: str) -> list[str]:
    """Say at which times a restaurant has a table this evening.

    Args:
        restaurant: Its name: Chez Lou, Il Forno or The Reef.
    """
    return RESTAURANTS.get(restaurant, [])


@tool(effect="write")
def book_table(restaurant: str, time: str, persons: int) -> Table:
    """Book a table for this evening.

    Args:
        restaurant: Its name.
        time: When, such as 20:00.
        persons: For how many.
    """
    if time not in RESTAURANTS.get(restaurant, []):
        raise ValueError(f"{restaurant} has no table at {time}")
    return {"restaurant": restaurant, "time": time, "persons": persons}
