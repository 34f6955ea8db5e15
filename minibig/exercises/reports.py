"""`recorded`: what a benchmark measured on another machine, for a notebook to show."""

from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def recorded(name, heading=None, folder=RESULTS):
    """Prints the newest report of `benchmarks/name.py`, saved as `name-DATE.md`.

    The first lines, with the machine, its date and what did not run there, come always;
    then all the rest, or the section under `heading` alone. Where nothing has been
    recorded, says so and names the command: a GPU's figures are never made up.
    Raises ValueError for a heading that the report has not.
    """
    found = sorted(Path(folder).glob(f"{name}-????-??-??.md"))
    if not found:
        print(
            f"No report of {name} has been recorded yet. On a machine with a GPU,\n"
            f"  python benchmarks/{name}.py\n"
            "measures it and writes one into benchmarks/results."
        )
        return
    head, *sections = found[-1].read_text(encoding="utf-8").split("\n## ")
    titles = [section.split("\n", 1)[0] for section in sections]
    if heading is not None and heading not in titles:
        raise ValueError(f"{found[-1].name} has no section {heading!r}, but {titles}")
    chosen = [s for s, t in zip(sections, titles, strict=True) if heading in (None, t)]
    print(
        "\n\n".join([f"Recorded in {found[-1].name}:", head.strip(), *chosen]).strip()
    )
