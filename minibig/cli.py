"""The command line, `python -m minibig`: its options, its errors and exit codes.

0: done; 1: something is broken, or training diverged; 2: asked wrongly, one sentence on
stderr says how; 130: stopped by Ctrl-C; 141: stopped in training, as the reader of its
output has gone.
"""

import argparse
import math
import os
import sys
import warnings
from pathlib import Path

from . import commands, threads
from .commands import SAMPLE_TOKENS, TEMPERATURE, UnknownPreset, UsageError
from .presets import PRESETS

NAMES = "train, demo, generate, doctor, bench or progress"
PRESET_HELP = f"what to train: {', '.join(PRESETS)} (--list describes them)"


def main(arguments=None):
    """Runs one command, `sys.argv`'s by default; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without "±" shows "?"
    options = make_parser().parse_args(arguments)
    try:
        _check_environment()
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *place: _fail(message)
            code = options.run(options)
        if sys.stdout is not None:  # as under pythonw
            sys.stdout.flush()  # here, where a closed pipe is caught
        return code
    except UsageError as error:
        _fail(error)
        if isinstance(error, UnknownPreset):
            print(commands.describe_presets(), file=sys.stderr)
        return 2
    except FloatingPointError as error:  # training diverged: the run says where
        _fail(error)
        return 1
    except KeyboardInterrupt as stop:
        if not stop.args:  # else the training run has said how to go on
            print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        trains = options.run in (commands.train, commands.demo)
        return 141 if trains and not getattr(options, "list", False) else 0


def _check_environment():
    try:
        threads.usable_cores()
    except ValueError as error:  # MINIBIG_THREADS is no number
        raise UsageError(error) from error


def _fail(error):
    print(f"minibig: {' '.join(str(error).split())}", file=sys.stderr)


# ---- arguments ----------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse's, with its errors in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help shows the options)\n")


def _number(kind, least, most=math.inf, above=False):
    """A converter of an option to a number between two bounds."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or (above and value == least):
            what = "whole number" if kind is int else "number"
            bound = f"above {least}" if above else f"from {least}"
            limit = "" if most == math.inf else f" to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is no {what} {bound}{limit}")
        return value

    return convert


def _path(text):
    if not text:  # as a Path it would be the current folder
        raise argparse.ArgumentTypeError("'' names no place")
    return Path(text)


def make_parser():
    """The parser of the whole command line."""
    from . import __version__

    parser = _Parser(
        prog="python -m minibig",
        description="Train small models from scratch, and see how it is done.",
    )
    parser.add_argument("--version", action="version", version=f"minibig {__version__}")
    known = parser.add_subparsers(metavar="COMMAND")

    parser.set_defaults(run=lambda options: parser.error(f"name a command: {NAMES}"))

    def command(function, about):
        added = known.add_parser(
            function.__name__, help=about, description=function.__doc__
        )
        added.set_defaults(run=function)
        return added

    _train_options(
        command(commands.train, "train a model that has a name, or go on with it")
    )
    added = command(
        commands.demo, "train a small GPT in about a minute, and let it write"
    )
    _place(added, default=Path("runs", "demo"))
    _processes(added)
    _generate_options(command(commands.generate, "write text with a trained model"))
    command(
        commands.doctor, "what this machine has, and what to do about what it lacks"
    )
    command(commands.bench, "how fast this machine is, in half a minute")
    command(commands.progress, "which checks of the exercises have passed")
    return parser


def _place(parser, **folder):
    parser.add_argument("--folder", type=_path, metavar="FOLDER", **folder)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def _processes(parser):
    parser.add_argument(
        "--processes", type=_number(int, 1, 64), metavar="N",
        help="how many share each batch on the CPU (default: one a core, 4 at most)",
    )  # fmt: skip


def _train_options(parser):
    whole, positive = _number(int, 0), _number(int, 1)
    _processes(parser)
    parser.add_argument("--preset", metavar="NAME", help=PRESET_HELP)
    parser.add_argument("--list", action="store_true", help="describe the presets")
    parser.add_argument(
        "--text", type=_path, metavar="FILE", help="learn this UTF-8 text"
    )
    parser.add_argument("--corpus", metavar="NAME", help="learn another corpus")
    _place(parser, help="where the run is kept (default: runs/NAME)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16"), default="fp32",
        help="16 bits for the work, 32 for the weights: worth it on a GPU",
    )  # fmt: skip
    parser.add_argument("--steps", type=positive, metavar="N", help="of the optimizer")
    parser.add_argument(
        "--seed", type=whole, metavar="N", help="another luck of the draw"
    )
    parser.add_argument(
        "--sample", type=whole, metavar="N",
        help=f"tokens a language model writes at the end (default: {SAMPLE_TOKENS})",
    )  # fmt: skip


def _generate_options(parser):
    whole, positive = _number(int, 0), _number(int, 1)
    _place(parser, required=True, help="of a finished run")
    parser.add_argument("--prompt", metavar="TEXT", help="how the text begins")
    parser.add_argument("--tokens", type=positive, metavar="N", default=500)
    parser.add_argument(
        "--temperature", type=_number(float, 0, 1e6), metavar="T", default=TEMPERATURE,
        help=f"0 takes the likeliest token (default: {TEMPERATURE})",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=positive, metavar="K", help="of the K likeliest"
    )
    parser.add_argument(
        "--top-p", type=_number(float, 0, 1, above=True), metavar="P",
        help="of the likeliest that reach probability P",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole, metavar="N", help="to repeat a text")
