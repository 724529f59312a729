"""Reads dashboards with Grafana's own types and writes them again: what is lost or changed is not Grafana's.

Arguments: dashboard files. Prints one line for each fault; exit code 1 when there is any. Needs the package
grafana-foundation-sdk, whose types are generated from Grafana's sources.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

# what Grafana itself writes and its published schema lacks
UNPUBLISHED = {"builtIn", "definition", "wideLayout"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("__")}


def differences(ours, theirs, path=""):
    """What is in `ours` and not in `theirs`, as lines."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from differences(value, theirs[key], f"{path}.{key}")
            elif value is not None and key not in UNPUBLISHED:
                yield f"{path}.{key}: Grafana has no such field"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} becomes {theirs!r}"


def unknown_units(value, path=""):
    """Units that Grafana does not have, as lines."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "unit" and isinstance(inner, str) and inner not in UNITS:
                yield f"{path}.unit: Grafana has no unit {inner!r}"
            yield from unknown_units(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unknown_units(inner, f"{path}[{index}]")


def faults(path):
    """Everything that is wrong with a dashboard file, as lines."""
    with open(path, encoding="utf-8") as file:
        ours = json.load(file)
    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))
    yield from differences(ours, theirs)
    yield from unknown_units(ours)


register_default_plugins()
found = [f"{path}{fault}" for path in sys.argv[1:] for fault in faults(path)]
print("\n".join(found))
sys.exit(bool(found))
