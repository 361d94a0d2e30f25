"""adaptx: learning rates that adapt. Adaptive optimizers for JAX that are exact, observable and values."""

from . import controllers as controllers
from . import rules as rules
from . import schedules as schedules
from .base import State as State
from .conversion import convert as convert
from .engine.freeze import freeze as freeze
from .engine.optimizer import Optimizer as Optimizer
from .engine.packing import pack as pack
from .engine.route import route as route
from .engine.telemetry import metrics as metrics
from .engine.telemetry import read as read
from .interop import from_optax as from_optax
from .interop import from_torch as from_torch
from .interop import to_optax as to_optax
from .interop import to_torch as to_torch
from .optimizers import adafactor as adafactor
from .optimizers import adagrad as adagrad
from .optimizers import adam as adam
from .optimizers import adamw as adamw
from .optimizers import bias_correction as bias_correction
from .optimizers import ema as ema
from .optimizers import lamb as lamb
from .optimizers import lars as lars
from .optimizers import lion as lion
from .optimizers import momentum as momentum
from .optimizers import muon as muon
from .optimizers import rmsprop as rmsprop
from .optimizers import scale_by_rule as scale_by_rule
from .optimizers import sgd as sgd
from .training.step import train_epoch as train_epoch
from .training.step import train_step as train_step
from .wrappers import averaged as averaged
from .wrappers import eval_params as eval_params
from .wrappers import lookahead as lookahead
from .wrappers import schedule_free as schedule_free
from .wrappers import shield as shield

__version__ = "0.1.0"
