"""The rules, one family a file. `ALL`, the registry tests and the command line walk, has those that are optimizers."""

from .adafactor import Adafactor as Adafactor
from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .averages import Average as Average
from .averages import BiasCorrection as BiasCorrection
from .lion import Lion as Lion
from .momentum import Momentum as Momentum
from .muon import Muon as Muon
from .rmsprop import Rmsprop as Rmsprop
from .sgd import Sgd as Sgd

ALL = {
    "sgd": Sgd,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "rmsprop": Rmsprop,
    "adam": Adam,
    "lion": Lion,
    "adafactor": Adafactor,
    "muon": Muon,
}
