#!/usr/bin/env python3
"""Draws the dashboard Traffic from its own queries, as SVG: what a reader of the docs sees before Grafana runs.

    scripts/traffic-picture.py [--minutes N] [--dashboard FILE] >docs/images/traffic.svg

Asks the database that psql reaches (PGHOST, PGPORT, PGUSER, PGDATABASE; PGOPTIONS='-c search_path=clickstream'). The layout, the
titles and the SQL are the dashboard's; only the drawing is this script's, so it shows the data and not Grafana's looks.
"""

import argparse
import csv
import datetime
import html
import io
import json
import math
import pathlib
import re
import subprocess
import time

COLUMN, ROW, GAP = 60, 34, 6
COLOURS = ["#3274d9", "#8ab8ff", "#ff9830", "#73bf69", "#f2495c", "#b877d9", "#fade2a", "#5794f2", "#a352cc", "#56a64b", "#767171"]
NAMED = {"blue": "#3274d9", "light-blue": "#8ab8ff", "orange": "#ff9830"}


def query(sql, since, until):
    """Rows of a query as dictionaries, Grafana's macros filled in: intervals of a minute."""
    between = rf"\1 between to_timestamp({since}) and to_timestamp({until})"
    sql = re.sub(r"\$__timeFilter\(([a-z_.]+)\)", between, sql)
    minute = r'to_timestamp(floor(extract(epoch from \1) / 60) * 60) as "time"'
    sql = re.sub(r"\$__timeGroupAlias\(([a-z_.]+), \$__interval\)", minute, sql)
    sql = sql.replace("$__interval_ms", "60000")
    answer = subprocess.run(
        ["psql", "--csv", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", "set timezone = 'UTC'", "--command", sql],
        capture_output=True, text=True, check=True,
    )
    return list(csv.DictReader(io.StringIO(answer.stdout)))


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def shown(value, unit):
    """A value as Grafana would write it, nearly."""
    figure = number(value)
    if figure is None:
        return value if value else "–"
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
            if abs(figure) >= size:
                return f"{figure / size:.1f} {name}"
        return f"{figure:.1f} s"
    if unit == "percentunit":
        return f"{figure * 100:.1f} %"
    if unit == "none":
        return f"{figure:.0f}"
    return f"{figure:,.0f}" if figure == int(figure) else f"{figure:,.1f}"


def text(x, y, words, size=12, colour="#343741", anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(words)}</text>'


def fitting(words, width, size=11):
    """Words cut to a width in pixels; a letter of this font is about 0.56 of its size."""
    room = max(1, int(width / (size * 0.56)))
    return words if len(words) <= room else words[: room - 1] + "…"


def colour_of(threshold_steps, value):
    colour = "green"
    for step in threshold_steps:
        if step["value"] is None or (value is not None and value >= step["value"]):
            colour = step["color"]
    return {"green": "#37872d", "orange": "#fa6400", "red": "#c4162a"}.get(colour, "#343741")


def draw_stat(panel, rows, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    value = next(iter(rows[0].values())) if rows else ""
    plain = panel["options"]["colorMode"] == "none"
    colour = "#343741" if plain else colour_of(defaults["thresholds"]["steps"], number(value))
    return [text(x + w / 2, y + h / 2 + 20, shown(value, defaults["unit"]), 30, colour, "middle", "bold")]


def draw_table(panel, rows, x, y, w, h):
    if not rows:
        return [text(x + w / 2, y + h / 2, "none", 12, "#69707d", "middle")]
    units = {o["matcher"]["options"]: p["value"] for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "unit"}
    names = list(rows[0])
    fits = int((h - 58) / 19)

    def cell(row, name):
        value = row[name]
        unit = units.get(name, panel["fieldConfig"]["defaults"]["unit"])
        if unit == "dateTimeAsIso":
            return value[:19]
        return shown(value, unit) if number(value) is not None else value

    # a column gets room by its longest cell
    longest = [max([len(name)] + [len(cell(row, name)) for row in rows[:fits]]) for name in names]
    total = sum(longest)
    widths = [(w - 24) * length / total for length in longest]
    parts = []
    for line, row in enumerate([None] + rows[:fits]):
        at = x + 12
        base = y + 48 + line * 19
        for name, width in zip(names, widths):
            words = name if row is None else cell(row, name)
            parts.append(text(at, base, fitting(words, width - 6), 11, "#343741", weight="bold" if row is None else "normal"))
            at += width
    return parts


def series_of(rows):
    """Series by name, each a list of (time, value)."""
    series = {}
    for row in rows:
        at = datetime.datetime.fromisoformat(re.sub(r"\+(\d\d)$", r"+\1:00", row["time"])).timestamp()
        if "metric" in row:
            (value,) = [number(v) for k, v in row.items() if k not in ("time", "metric")]
            series.setdefault(row["metric"], []).append((at, value))
        else:
            for name, value in row.items():
                if name != "time":
                    series.setdefault(name, []).append((at, number(value)))
    return series


def nice(top):
    """A round number not below `top`, whose quarters are round too."""
    if top <= 0:
        return 1
    size = 10 ** math.floor(math.log10(top))
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= top)


def draw_series(panel, rows, x, y, w, h, since, until):
    series = series_of(rows)
    if not series:
        return [text(x + w / 2, y + h / 2, "none", 12, "#69707d", "middle")]
    fixed = {o["matcher"]["options"]: NAMED.get(p["value"]["fixedColor"], "#3274d9") for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "color"}
    custom = panel["fieldConfig"]["defaults"]["custom"]
    is_bars, is_stack = custom["drawStyle"] == "bars", custom["stacking"]["mode"] == "normal"
    left, right, top, bottom = x + 52, x + w - 14, y + 36, y + h - 48
    sums = {}
    for points in series.values():
        for at, value in points:
            sums[at] = (sums.get(at, 0) if is_stack else 0) + (value or 0)
    tallest = max(sums.values()) if is_stack else max((v or 0) for points in series.values() for _, v in points)
    highest = nice(tallest)

    def px(at):
        # the first window may have begun before the time shown
        return left + (right - left) * max(0, at - since) / (until - since)

    def py(value):
        return bottom - (bottom - top) * value / highest

    parts = []
    for step in range(5):
        value = highest * step / 4
        parts.append(f'<line x1="{left}" x2="{right}" y1="{py(value):.1f}" y2="{py(value):.1f}" stroke="#e4e7ec"/>')
        parts.append(text(left - 6, py(value) + 4, f"{value:,.10g}", 10, "#69707d", "end"))
    every = max(1, round((until - since) / 60 / 10)) * 60
    at = math.ceil(since / every) * every
    while at <= until:
        clock = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%H:%M")
        parts.append(text(px(at), bottom + 15, clock, 10, "#69707d", "middle"))
        at += every
    width = max(2.0, (right - left) * 60 / (until - since) * 0.8)
    beneath = {}
    legend = left
    for index, (name, points) in enumerate(series.items()):
        colour = fixed.get(name, COLOURS[index % len(COLOURS)])
        if is_bars:
            for at, value in points:
                if value:
                    base = beneath.get(at, 0)
                    height = py(base) - py(base + value)
                    parts.append(f'<rect x="{min(px(at), right - width):.1f}" y="{py(base + value):.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
                    beneath[at] = base + value if is_stack else 0
        else:
            line = " ".join(f"{px(at):.1f},{py(value):.1f}" for at, value in points if value is not None)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        words = fitting(name.removeprefix("https://"), 160, 10)
        room = 24 + len(words) * 5.8
        if legend + room > right:
            continue
        parts.append(f'<rect x="{legend}" y="{y + h - 21}" width="12" height="4" fill="{colour}"/>')
        parts.append(text(legend + 16, y + h - 15, words, 10, "#535966"))
        legend += room
    return parts


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path(__file__).parent.parent / "charts/clickstream-operator/files/dashboards/traffic.json"
    arguments.add_argument("--dashboard", type=pathlib.Path, default=default)
    arguments.add_argument("--minutes", type=int, default=60, help="how far back the picture goes")
    given = arguments.parse_args()
    board = json.loads(given.dashboard.read_text(encoding="utf-8"))
    until = int(time.time())
    since = until - given.minutes * 60
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * ROW + 62
    stamp = datetime.datetime.fromtimestamp(until, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" font-family="Inter, Helvetica, Arial, sans-serif">',
        f'<rect width="{24 * COLUMN}" height="{height}" fill="#f4f5f8"/>',
        text(12, 32, board["title"], 20, weight="bold"),
        text(24 * COLUMN - 12, 32, f"the last {given.minutes} minutes, {stamp}", 12, "#69707d", "end"),
    ]
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP / 2, place["y"] * ROW + 50
        w, h = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        if panel["type"] == "row":
            parts.append(text(x + 8, y + 20, panel["title"], 14, "#343741", weight="bold"))
            continue
        parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="#fff" stroke="#d8dce3"/>')
        parts.append(text(x + 12, y + 21, fitting(panel["title"], w - 20, 12), 12, weight="bold"))
        rows = [row for target in panel["targets"] for row in query(target["rawSql"], since, until)]
        if panel["type"] == "stat":
            parts += draw_stat(panel, rows, x, y, w, h)
        elif panel["type"] == "table":
            parts += draw_table(panel, rows, x, y, w, h)
        else:
            parts += draw_series(panel, rows, x, y, w, h, since, until)
    parts.append("</svg>")
    print("\n".join(parts))


main()
