"""What notebooks import: `check`, `hint`, `result`, `scaled`, `recorded`."""

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
from .reports import recorded
from .results import in_smoke_mode, result, scaled
