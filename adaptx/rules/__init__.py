"""The rules, one paper a file. `ALL`, the registry tests and the command line walk, has those that are optimizers."""

from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .averages import Average as Average
from .averages import BiasCorrection as BiasCorrection
from .momentum import Momentum as Momentum
from .rmsprop import Rmsprop as Rmsprop
from .sgd import Sgd as Sgd

ALL = {"sgd": Sgd, "momentum": Momentum, "adagrad": Adagrad, "rmsprop": Rmsprop, "adam": Adam}
