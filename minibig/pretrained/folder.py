"""The folders that published models come in: config.json and safetensors files."""

import json
from pathlib import Path

from ..files import FileError, atomic_write, load_arrays, save_arrays

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")


def read_config(folder):
    """The dict in a folder's config.json."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: download the model first")
    return read_table(folder / CONFIG)


def read_arrays(folder):
    """All arrays of a folder by name, from one file or from the parts of several."""
    folder = Path(folder)
    if (folder / WEIGHTS).exists():
        return load_arrays(folder / WEIGHTS)[0]
    if (folder / INDEX).exists():
        return _read_parts(folder)
    for name in PICKLES:
        if (folder / name).exists():
            raise FileError(
                f"{folder} holds its weights as {name} alone, a pickle, which can run "
                f"any code when opened; take the {WEIGHTS} of this model, or convert it"
            )
    raise FileNotFoundError(f"{folder} has no {WEIGHTS} and no {INDEX}")


def write_folder(folder, settings, arrays):
    """Writes config.json and model.safetensors; the folder is made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # transformers reads files of this format alone; it means: no array transposed.
    save_arrays(folder / WEIGHTS, arrays, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(settings, indent=1, sort_keys=True).encode())


def read_table(path):
    """The dict in a JSON file of a folder."""
    try:
        table = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.parent} has no {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise FileError(f"{path} holds no table of settings")
    return table


def _read_parts(folder):
    places = read_table(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(map(_plain, places.values())):
        raise FileError(f"{folder / INDEX} has no weight_map of names to files")
    arrays = {}
    for part in sorted(set(places.values())):
        if not (folder / part).exists():
            raise FileNotFoundError(f"{folder} lacks {part}, which {INDEX} names")
        for name, array in load_arrays(folder / part)[0].items():
            if name in arrays:
                raise FileError(f"{folder}: {name} stands in two files")
            arrays[name] = array
    lost = sorted(set(places) - set(arrays))
    if lost:
        raise FileError(f"{folder}: {INDEX} names {lost[0]}, which is in no file")
    return arrays


def _plain(name):
    """Whether this is the name of a file, in this folder and no other."""
    return isinstance(name, str) and Path(name).name == name and name not in ("", "..")
