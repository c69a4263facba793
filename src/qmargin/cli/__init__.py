"""The command line: parse, call, print. No numerics here, and no default that a config does not have."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

import qmargin
from qmargin.cli import (
    bench,
    calibrate,
    checkpoint,
    clean,
    compare,
    demo,
    embed,
    evaluate,
    export,
    ijb,
    import_,
    info,
    pack,
    pairs,
    plan,
    prepare,
    score,
    threshold,
    train,
    verify,
)
from qmargin.recipes.registry import nearest
from qmargin.training import Interrupted
from qmargin.training.ranks import own_rank

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "prepare": prepare.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "pairs": pairs.run,
    "ijb": ijb.run,
    "pack": pack.run,
    "clean": clean.run,
    "compare": compare.run,
    "embed": embed.run,
    "export": export.run,
    "import": import_.run,
    "score": score.run,
    "calibrate": calibrate.run,
    "threshold": threshold.run,
    "verify": verify.run,
    "demo": demo.run,
    "checkpoint": checkpoint.run,
    "bench": bench.run,
    "plan": plan.run,
    "info": info.run,
}
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad input is one clear line on standard error and exit status 2, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        _overview()
        return
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"qmargin {qmargin.__version__}\n")
        return
    try:
        COMMANDS[nearest(words[0], COMMANDS, "command")](words[1:])
    except (ValueError, OSError) as error:  # OSError: a disk that fills up or a file that goes away while we run
        _say("error", "bold red", str(error))
        sys.exit(EXIT_BAD_INPUT)
    except (Interrupted, KeyboardInterrupt) as stopped:
        _say("stopped", "bold yellow", str(stopped) or "interrupted; every file that was written is whole")
        sys.exit(EXIT_INTERRUPTED)


def _say(word: str, style: str, text: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    rank, size = own_rank()
    console.print(f"[{style}]{f'rank {rank}: ' if size > 1 else ''}{word}:[/]", end=" ")
    console.print(text, markup=False, highlight=False)


def _overview() -> None:
    console = Console()
    console.print(f"[bold]qmargin {qmargin.__version__}[/]: train and judge verification models with sparse losses\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"[bold]qmargin {name}[/]", (command.__doc__ or "").strip().splitlines()[0])
    console.print(table)
    console.print("\n`qmargin COMMAND --help` explains one. Start with: [bold]qmargin demo --out runs/demo[/]")
