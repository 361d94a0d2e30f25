"""adaptx: learning rates that adapt. Adaptive optimizers for JAX that are exact, observable and values."""

from . import controllers as controllers
from . import rules as rules
from . import schedules as schedules
from .base import State as State
from .engine.optimizer import Optimizer as Optimizer
from .engine.telemetry import metrics as metrics
from .engine.telemetry import read as read
from .optimizers import adagrad as adagrad
from .optimizers import adam as adam
from .optimizers import adamw as adamw
from .optimizers import bias_correction as bias_correction
from .optimizers import ema as ema
from .optimizers import momentum as momentum
from .optimizers import rmsprop as rmsprop
from .optimizers import scale_by_rule as scale_by_rule
from .optimizers import sgd as sgd
from .training.step import train_epoch as train_epoch
from .training.step import train_step as train_step

__version__ = "0.1.0"
