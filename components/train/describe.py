"""`python -m components.train.describe`: the table of a recipe's layers, shapes, parameters, neurons and operations."""

import argparse
import json
import sys

from components.shared.contract import fields
from components.shared.errors import UsageError
from components.shared.layers import Layer
from components.train.contract import Train
from components.train.net import network
from components.train.recipes import switches


def _size(values: list[int]) -> str:
    return "x".join(str(value) for value in values)


def table(layers: list[Layer]) -> str:
    """Format layers and totals for people."""
    rows: list[tuple[str, ...]] = [("layer", "op", "inputs", "output", "kernel", "parameters", "neurons", "MACs")]
    for layer in layers:
        counts = [count(layer) for count in (network.num_parameters, network.num_neurons, network.num_macs)]
        rows.append(
            (
                layer["name"],
                layer["op"],
                " + ".join(layer["inputs"]),
                _size(layer["shape"]),
                _size(layer.get("kernel", [])),
                *(f"{count:,}" if count else "" for count in counts),
            )
        )
    total = network.totals(layers)
    rows.append(
        ("total", "", "", "", "", *(f"{total[key]:,}" for key in ("num_parameters", "num_neurons", "num_macs")))
    )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(w) if i < 5 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the description that the flags ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m components.train.describe", description=__doc__, allow_abbrev=False
    )
    declared = next(field for field in fields(Train) if field.name == "recipe")
    parser.add_argument("--recipe", metavar="NAME[+SWITCH...]", default=declared.default, help=declared.help)
    parser.add_argument("--num-classes", type=int, default=1000, metavar="INT")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    flags = parser.parse_args()
    if flags.num_classes < 2:
        parser.error(f"--num-classes: expected at least 2, got {flags.num_classes}")
    try:
        recipe = switches.named(declared.parse(flags.recipe))
    except UsageError as error:
        parser.error(str(error))
    layers = network.build(recipe, flags.num_classes)
    if flags.json:
        counted = [
            {
                **layer,
                "num_parameters": network.num_parameters(layer),
                "num_neurons": network.num_neurons(layer),
                "num_macs": network.num_macs(layer),
            }
            for layer in layers
        ]
        text = json.dumps({"recipe": recipe.name, "layers": counted, **network.totals(layers)}, indent=1) + "\n"
    else:
        text = table(layers)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
