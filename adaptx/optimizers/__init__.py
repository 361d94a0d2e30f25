"""The optimizers: a rule, a learning rate and the engine options, a few lines each.

`ALL` is the registry, `FAMILIES` the same by module. Equations in full, and where they depart from the paper:
`adaptx show NAME` or `rules/NAME.py`.
"""

from collections.abc import Callable

from ..engine.transformation import Transformation
from .adam_family import adam as adam
from .adam_family import adamax as adamax
from .adam_family import adamw as adamw
from .adam_family import nadam as nadam
from .adam_family import nadamw as nadamw
from .adam_family import radam as radam
from .adam_family import stableadamw as stableadamw
from .adaptive import acprop as acprop
from .adaptive import adabelief as adabelief
from .adaptive import adabound as adabound
from .adaptive import adadelta as adadelta
from .adaptive import kate as kate
from .adaptive import madgrad as madgrad
from .adaptive import qhadam as qhadam
from .adaptive import yogi as yogi
from .blocks import adam_mini_by_name as adam_mini_by_name
from .classical import adagrad as adagrad
from .classical import momentum as momentum
from .classical import rmsprop as rmsprop
from .classical import sgd as sgd
from .curvature import adahessian as adahessian
from .curvature import sophia as sophia
from .hidden import hidden_matrices as hidden_matrices
from .layers import lamb as lamb
from .layers import lars as lars
from .low_memory import adafactor as adafactor
from .low_memory import adam_mini as adam_mini
from .low_memory import apollo as apollo
from .low_memory import apollo_mini as apollo_mini
from .low_memory import came as came
from .low_memory import galore as galore
from .low_memory import sgd_sai as sgd_sai
from .low_memory import sm3 as sm3
from .matrices import dion as dion
from .matrices import muon as muon
from .matrices import normuon as normuon
from .matrices import scion as scion
from .memories import adan as adan
from .memories import ademamix as ademamix
from .memories import adopt as adopt
from .memories import laprop as laprop
from .memories import mars as mars
from .memories import novograd as novograd
from .memories import simplified_ademamix as simplified_ademamix
from .pieces import bias_correction as bias_correction
from .pieces import ema as ema
from .pieces import scale_by_rule as scale_by_rule
from .preconditioned import psgd_kron as psgd_kron
from .preconditioned import shampoo as shampoo
from .preconditioned import soap as soap
from .preconditioned import splus as splus
from .signs import lion as lion
from .signs import rprop as rprop
from .signs import signum as signum
from .signs import tiger as tiger

ALL: dict[str, Callable[..., Transformation]] = {
    make.__name__: make
    for make in (
        sgd, momentum, adagrad, rmsprop,
        adam, adamw, stableadamw, nadam, nadamw, radam, adamax, adadelta, adabelief, yogi, adabound, qhadam, kate,
        acprop, madgrad,
        adan, adopt, ademamix, simplified_ademamix, laprop, mars, novograd,
        lion, signum, tiger, rprop,
        adafactor, came, sm3, adam_mini, galore, apollo, apollo_mini, sgd_sai,
        muon, normuon, scion, dion,
        shampoo, soap, psgd_kron, splus,
        sophia, adahessian,
        lars, lamb,
    )
}  # fmt: skip


def _family(name: str) -> str:
    return ALL[name].__module__.rpartition(".")[2]


# family -> its optimizers: a family is a module of this package
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(name for name in ALL if _family(name) == family) for family in dict.fromkeys(map(_family, ALL))
}
