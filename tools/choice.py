"""Which notebooks the names on a command line mean."""


def chosen(names, paths):
    """Those of `paths` that `names` mean: "04", "04_neural_networks"; without: all.

    Raises ValueError for a name that means none of them, and where there are none.
    """
    if not paths:
        raise ValueError("there are no notebooks to choose from")
    for name in names:
        if not any(name in (path.stem, path.stem[:2]) for path in paths):
            known = ", ".join(path.stem for path in paths)
            raise ValueError(f"there is no notebook {name!r}, but {known}")
    return [p for p in paths if not names or {p.stem, p.stem[:2]} & set(names)]
