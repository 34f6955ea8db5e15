"""Make the weights that notebook 12 fine-tunes: `python -m tools.pretrain_bert`.

The preset `bert`, trained longer: about twelve minutes on one CPU core. Stopped and
started again it goes on where it was. What is written into minibig/pretrained/ goes
with the package: a folder that `BERTForMaskedLM.from_pretrained` reads, the weights in
float16, and in config.json under "minibig" how they were made.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from minibig import data, recipes
from minibig.files import atomic_write
from minibig.presets import PRESETS
from minibig.pretrained import PYTHON_BERT

ROOT = Path(__file__).resolve().parent.parent
PRESET = replace(PRESETS["bert"], steps=3600, warmup=300)


def main():
    """Train, write the folder, say what came out; 0."""
    run = recipes.train(PRESET, ROOT / "build" / "pretrain-bert")
    write(run, PYTHON_BERT)
    print(PRESET.describe(run.results))
    return 0


def write(run, folder):
    """The model of a run and its tokenizer as a published folder, in float16."""
    run.model.to("float16").save_pretrained(folder)
    run.tokenizer.save_vocabulary(folder)
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) | {"minibig": how_made(run)}
    with atomic_write(path) as file:
        file.write(json.dumps(config, indent=1, sort_keys=True).encode() + b"\n")


def how_made(run):
    """Command, data, time and result, and the losses on held-out text on the way."""
    corpora = data.documentation(), data.docstrings()
    return {
        "command": "make pretrain-bert",
        "python": corpora[0].python,
        "corpora": {corpus.name: corpus.hash for corpus in corpora},
        "tokenizer": run.tokenizer.hash,
        "seed": PRESET.seed,
        "steps": PRESET.steps,
        "rows_a_step": PRESET.batch_size,
        "minutes": round(run.history.steps[-1]["seconds"] / 60, 1),
        "results": {name: round(value, 4) for name, value in run.results.items()},
        "evaluations": [
            {name: round(value, 4) for name, value in row.items()}
            for row in run.history.evaluations
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
