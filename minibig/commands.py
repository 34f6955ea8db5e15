"""What `python -m minibig` can do: train, demo, generate, doctor, bench, progress.

Each command takes the parsed options and returns an exit code; each imports what it
needs, so that `--help` is there at once.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import shlex
import sys
from pathlib import Path

from .backend import DeviceError, check_device
from .files import FileError
from .presets import PRESETS

TEMPERATURE = 0.8  # below 1: fewer slips than the model makes when it is left alone
DEMO_TOKENS = 500
SAMPLE_TOKENS = 200


class UsageError(Exception):
    """What was asked for cannot be done; the message is one sentence for the user."""


class UnknownPreset(UsageError):
    """Its message is followed by the presets that there are."""


@contextlib.contextmanager
def _one_sentence(*kinds):
    """Turns the errors that a wrong request causes into a UsageError."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, kinds) or isinstance(error, BrokenPipeError):
            raise
        reason = f"{error.filename}: {error.strerror}" if error.filename else error
        raise UsageError(reason) from error
    except kinds as error:
        raise UsageError(error) from error


# ---- the commands -------------------------------------------------------------------


def train(options):
    """Trains a preset, or goes on with it; prints how good it is and, of a language
    model, a sample."""
    if options.list:
        print(describe_presets())
        return 0
    preset = choose_preset(options)
    if options.sample is not None and not preset.language:
        raise UsageError(
            f"--sample is for {writers()}; {options.preset} writes no text"
        )
    folder = options.folder or Path("runs", options.preset)
    text = None if options.text is None else load_text(options.text)
    if text is not None:
        from .recipes import of_text

        preset = of_text(preset, text, options.text.name)
    trained = run(preset, folder, text, options)
    if not preset.language:
        call = f"minibig.recipes.load_model({str(folder)!r})"
        print(f"The model is kept in {folder}; in Python: {call}")
        return 0
    tokens = SAMPLE_TOKENS if options.sample is None else options.sample
    if tokens:
        prompt = opening(trained.tokenizer, preset.prompt)
        print(f"\n{write(trained.model, trained.tokenizer, prompt, tokens)}\n")
    print(f"More text: python -m minibig generate --folder {shlex.quote(str(folder))}")
    return 0


def demo(options):
    """Trains the preset "demo" once, writes text, and counts its known words."""
    from .data.text import share_of_known_words
    from .recipes import CORPORA

    preset, folder = PRESETS["demo"], options.folder
    if is_finished(preset, folder):
        try:
            model, tokenizer = load_model(folder, options.device)
        except UsageError as error:
            if isinstance(error.__cause__, DeviceError):
                raise
            advice = f"remove {folder} to train it again"
            raise UsageError(f"{error}; {advice}") from error
        print(f"{folder} holds the finished demo; remove it to train it again.")
    else:
        trained = run(preset, folder, None, options)
        model, tokenizer = trained.model, trained.tokenizer
    prompt = opening(tokenizer, preset.prompt)
    written = write(model, tokenizer, prompt, DEMO_TOKENS)
    corpus = CORPORA[preset.corpus]().text
    share = share_of_known_words(written.removeprefix(prompt), corpus)
    print(f"\n{written}\n")
    print(f"{share:.0%} of its words (three letters or more) occur in the corpus.")
    return 0


def generate(options):
    """Writes text with the model in a folder."""
    from .recipes import read_config
    from .tasks.folder import WRITERS

    model, tokenizer = load_model(options.folder, options.device)
    config = read_config(options.folder)
    if config["model"] not in WRITERS:
        raise UsageError(
            f"the model in {options.folder} is no language model but of the kind "
            f"{config['model']}: it cannot write on"
        )
    if options.prompt is None:
        preset = config.get("preset")
        prompt = preset.get("prompt") if isinstance(preset, dict) else None
        prompt = opening(tokenizer, str(prompt or ""))
    else:
        prompt = options.prompt
        try:
            tokenizer.encode(prompt)
        except ValueError as error:  # a character or word it has never seen
            what = str(error).partition("; ")[0]
            raise UsageError(
                f"--prompt: {what}; begin with what it has read"
            ) from error
    seed = options.seed
    if seed is None:
        seed = secrets.randbelow(10**6)
        print(f"--seed {seed} writes this again", file=sys.stderr)
    print(
        write(
            model, tokenizer, prompt, options.tokens, seed=seed,
            temperature=options.temperature, top_k=options.top_k, top_p=options.top_p,
        )
    )  # fmt: skip
    return 0


def doctor(options):
    """Says what this machine has, and what to do about what it lacks."""
    from .doctor import examine

    report = examine()
    print(report)
    return 0 if report.healthy else 1


def bench(options):
    """Says how fast this machine is at what training does."""
    from .bench import table

    print(table())
    return 0


def progress(options):
    """Says which checks of the course's exercises have passed, and which are open."""
    from . import exercises

    record = exercises.find_record()
    if record is None:
        raise UsageError(
            f"no passed checks are kept in {Path.cwd()} or above it: run `make lab` "
            "once in the folder of minibig. It makes my/, where they are kept"
        )
    with _one_sentence(FileError):
        exercises.read_record(record)
    print(exercises.progress(record))
    return 0


# ---- what they share ----------------------------------------------------------------


def describe_presets():
    """One line a preset: its name and what it is."""
    width = max(map(len, PRESETS))
    return "\n".join(f"{name:<{width}}  {p.about}" for name, p in PRESETS.items())


def writers():
    """The names of the presets that write text."""
    *names, last = [name for name, preset in PRESETS.items() if preset.language]
    return f"{', '.join(names)} and {last}"


def choose_preset(options):
    """The preset asked for, with --steps, --seed and --corpus where they were given."""
    if options.preset is None:
        names = ", ".join(PRESETS)
        raise UsageError(f"train needs --preset NAME: {names} (--list describes them)")
    if options.preset not in PRESETS:
        raise UnknownPreset(f"there is no preset {options.preset!r}, but there are:")
    preset = PRESETS[options.preset]
    if options.corpus is not None or options.text is not None:
        preset = choose_corpus(preset, options)
    steps = options.steps or preset.steps
    seed = preset.seed if options.seed is None else options.seed
    warmup = min(preset.warmup, steps // 2)  # a short run needs a shorter one
    return dataclasses.replace(preset, steps=steps, seed=seed, warmup=warmup)


def choose_corpus(preset, options):
    """The preset with --corpus; UsageError where it or --text makes no sense."""
    from .recipes import CORPORA

    if not preset.language:
        raise UsageError(
            f"--text and --corpus are for {writers()}; {options.preset} has data of "
            "its own"
        )
    if options.corpus is None:
        return preset
    if options.corpus not in CORPORA:
        raise UsageError(
            f"there is no corpus {options.corpus!r}, but {', '.join(CORPORA)}"
        )
    if options.text is not None:
        raise UsageError("--text and --corpus both say what to learn: give one")
    return dataclasses.replace(preset, corpus=options.corpus)


def load_text(path):
    """The text of a file; UsageError where it is not one."""
    from .data.text import read_text

    with _one_sentence(OSError, FileError):
        return read_text(path)


def run(preset, folder, text, options):
    """The Trained of a run in `folder`, whose results are printed."""
    from . import recipes
    from .training import HelperError, usable_processes
    from .training.data_parallel import check_shareable
    from .training.resume import OtherRunError

    with _one_sentence(
        OSError, FileError, DeviceError, recipes.TextError, HelperError,
        ModuleNotFoundError,  # the digits are scikit-learn's
    ):  # fmt: skip
        device = check_device(options.device)
        precision = getattr(options, "precision", "fp32")  # demo has no such option
        processes = options.processes or usable_processes(device)
        if (options.processes or 1) > 1:
            with _one_sentence(ValueError):
                check_shareable("--processes", options.processes, device)
            if precision == "fp16":
                raise UsageError("--precision fp16 runs in one process: --processes 1")
        processes = 1 if precision == "fp16" else processes
        if precision == "bf16" and device == "cpu":
            raise UsageError("--precision bf16 needs --device cuda: NumPy has no bf16")
        check_folder(folder)
        try:
            trained = recipes.train(
                preset, folder, text=text, device=device, processes=processes,
                precision=precision,
            )  # fmt: skip
        except OtherRunError as error:
            raise UsageError(error) from error
    print(f"{preset.judged_on}: {preset.describe(trained.results)}")
    print(f"{trained.seconds / 60:.1f} minutes")
    return trained


def check_folder(folder):
    """Refuses a folder that cannot be made or written, before any work."""
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"{place} is a file; --folder names a folder")
            if not os.access(place, os.W_OK):
                raise UsageError(f"{place}: nothing may be written into this folder")
            return


def is_finished(preset, folder):
    """Whether `folder` holds the model that this preset ends with."""
    from .recipes import read_config, what_counts

    try:
        noted = read_config(folder).get("preset")
    except (OSError, FileError):
        return False
    ours = json.dumps(what_counts(preset))  # as JSON writes it: tuples are lists
    return isinstance(noted, dict) and what_counts(noted) == json.loads(ours)


def load_model(folder, device):
    """(model, tokenizer) of a finished run; UsageError where there is none."""
    from . import recipes
    from .training import latest

    with _one_sentence(OSError, FileError, DeviceError):
        if (folder / "config.json").is_file():
            return recipes.load_model(folder, check_device(device))
        if folder.is_dir() and latest(folder):
            raise UsageError(
                f"{folder} holds an unfinished run: repeat its train command first"
            )
    raise UsageError(f"there is no model in {folder}: train one, or name its folder")


def opening(tokenizer, prompt):
    """`prompt`, or nothing where the tokenizer does not know all of it."""
    try:
        tokenizer.encode(prompt)
    except ValueError:
        return ""
    return prompt


def write(model, tokenizer, prompt, tokens, *, seed=None, **settings):
    """The prompt and about `tokens` more, different each time without a seed."""
    from . import recipes

    seed = secrets.randbelow(2**32) if seed is None else seed
    settings.setdefault("temperature", TEMPERATURE)
    return recipes.write(model, tokenizer, prompt, tokens, seed=seed, **settings)
