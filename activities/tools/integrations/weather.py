"""Tells the present weather at a place, as OpenWeatherMap knows it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from activities.tools.integrations.service import Service, in_one_line, items_of, member
from engine.core.values import Json


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Tell the weather.

    Args:
        service: The call.
        arguments: {location}.

    Returns:
        {location, country, text, temperature_c, feels_like_c, humidity_percent, pressure_hpa, wind_m_s,
        clouds_percent, observed_at}; what the service does not know is null.

    Raises:
        ToolError: What `Service.secret` and `Service.ask` say; a place that is not known is a `tool.http_status`.
    """
    key = service.secret(service.config.api_key_env)
    params: dict[str, str | int] = {"q": arguments["location"], "units": "metric", "appid": key}
    reply = service.object_of(await service.ask("/weather", params))
    measured = reply.get("main")
    if not isinstance(measured, dict):
        raise service.bad_reply("tells no weather")
    return {
        "location": in_one_line(reply.get("name"), 300),
        "country": in_one_line(member(reply, "sys", "country"), 10),
        "text": ", ".join(in_one_line(item.get("description"), 100) for item in items_of(reply.get("weather"))[:5]),
        "temperature_c": _number(measured.get("temp")),
        "feels_like_c": _number(measured.get("feels_like")),
        "humidity_percent": _number(measured.get("humidity")),
        "pressure_hpa": _number(measured.get("pressure")),
        "wind_m_s": _number(member(reply, "wind", "speed")),
        "clouds_percent": _number(member(reply, "clouds", "all")),
        "observed_at": _time(reply.get("dt")),
    }


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _time(value: Any) -> str | None:
    seconds = _number(value)
    if seconds is None or not 0 <= seconds < 253_402_300_800:  # the year 10000
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
