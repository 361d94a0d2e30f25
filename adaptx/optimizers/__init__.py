"""The optimizers: a rule, a learning rate and the engine options, a few lines each. `ALL` is the registry."""

from .adam import adam as adam
from .adam import adamax as adamax
from .adam import adamw as adamw
from .adam import nadam as nadam
from .adam import nadamw as nadamw
from .adam import radam as radam
from .adaptive import adabelief as adabelief
from .adaptive import adabound as adabound
from .adaptive import adadelta as adadelta
from .adaptive import kate as kate
from .adaptive import qhadam as qhadam
from .adaptive import yogi as yogi
from .classical import adagrad as adagrad
from .classical import momentum as momentum
from .classical import rmsprop as rmsprop
from .classical import sgd as sgd
from .hidden import hidden_matrices as hidden_matrices
from .layers import lamb as lamb
from .layers import lars as lars
from .low_memory import adafactor as adafactor
from .low_memory import came as came
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
from .signs import lion as lion
from .signs import rprop as rprop
from .signs import signum as signum
from .signs import tiger as tiger

ALL = {
    make.__name__: make
    for make in (
        sgd, momentum, adagrad, rmsprop,
        adam, adamw, nadam, nadamw, radam, adamax, adadelta, adabelief, yogi, adabound, qhadam, kate,
        adan, adopt, ademamix, simplified_ademamix, laprop, mars, novograd,
        lion, signum, tiger, rprop,
        adafactor, came, sm3,
        muon, normuon, scion, dion,
        lars, lamb,
    )
}  # fmt: skip
