"""Training: the loop, what it records, and the files that let it go on."""

from .checkpoint import Checkpoint, latest, load_checkpoint, save_checkpoint
from .data_parallel import DataParallel, usable_processes
from .evaluation import (
    Evaluation,
    classification_loss,
    next_token_loss,
    regression_loss,
)
from .fine_tuning import freeze, parameter_groups
from .fit import Run, fit
from .helper import HelperError
from .history import History
from .metrics import accuracy, confusion_matrix, f1, perplexity, precision, recall
from .mixed_precision import GradScaler
from .search import LogUniform, SearchResults, Uniform, grid, sample, search
