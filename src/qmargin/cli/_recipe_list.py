"""What `qmargin train` says without a recipe: all there are, those of one public set of faces in one row."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from qmargin.recipes import FACE_SETS, NETWORKS, RECIPES, PublishedRecipe


def list_recipes() -> None:
    """Print every recipe with what it is, and the losses of each."""
    console = Console()
    console.print("[bold]qmargin train RECIPE --out DIR[/] [--loss NAME] [--resume] [--field value ...]\n")
    table = Table("recipe", "what it is", box=None, padding=(0, 2))
    table.columns[0].no_wrap = True
    recipes_by_losses: dict[str, list[str]] = {}
    for name, summary, losses in _rows():
        table.add_row(name, summary)
        recipes_by_losses.setdefault(losses, []).append(name)
    console.print(table)
    console.print(f"\nNETWORK is one of {', '.join(NETWORKS)} (the paper's network, not arcface_torch's).\n")
    *few, (common, _) = sorted(recipes_by_losses.items(), key=lambda item: len(item[1]))
    for losses, names in few:
        console.print(f"Losses of {', '.join(names)}: {losses}.", style="dim")
    console.print(f"Losses of {'the others' if few else 'all'}: {common}.", style="dim")
    console.print("\n`qmargin train RECIPE --help` lists every field with its unit and default. For example:")
    console.print("  qmargin train faces-orl --loss qmargin --out runs/first --seed 1 --loss.final.margin.m 0.2")


def _rows() -> Iterator[tuple[str, str, str]]:
    """Name, what it is and losses, of every recipe outside of the table of sets and networks, then of every set."""
    for recipe in RECIPES.values():
        if not isinstance(recipe.config, PublishedRecipe):
            yield recipe.name, recipe.summary, ", ".join(recipe.losses)
    for name, chosen in FACE_SETS.items():
        summary = f"{chosen.title}, {chosen.identities:,} identities, with arcface_torch's settings."
        yield f"faces-{name}-NETWORK", summary, ", ".join(chosen.losses)
