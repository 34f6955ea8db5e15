"""What checks the exercises of the notebooks: `check`, `hint`, `result`, `scaled`."""

from .checking import (
    check,
    exercises,
    find_record,
    hint,
    passed_exercises,
    progress,
    read_record,
)
from .exercise import Case, Exercise, Mistake
from .results import in_smoke_mode, result, scaled
