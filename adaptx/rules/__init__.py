"""The rules, one family a file. `ALL`, the registry tests and the command line walk, has those that are optimizers."""

from .adabelief import Adabelief as Adabelief
from .adabound import Adabound as Adabound
from .adadelta import Adadelta as Adadelta
from .adafactor import Adafactor as Adafactor
from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .adamax import Adamax as Adamax
from .adan import Adan as Adan
from .ademamix import Ademamix as Ademamix
from .adopt import Adopt as Adopt
from .averages import Average as Average
from .averages import BiasCorrection as BiasCorrection
from .came import Came as Came
from .dion import Dion as Dion
from .kate import Kate as Kate
from .laprop import Laprop as Laprop
from .lion import Lion as Lion
from .mars import Mars as Mars
from .momentum import Momentum as Momentum
from .muon import Muon as Muon
from .nadam import Nadam as Nadam
from .normuon import Normuon as Normuon
from .novograd import Novograd as Novograd
from .qhadam import Qhadam as Qhadam
from .radam import Radam as Radam
from .rmsprop import Rmsprop as Rmsprop
from .rprop import Rprop as Rprop
from .scion import Scion as Scion
from .sgd import Sgd as Sgd
from .signum import Signum as Signum
from .simplified_ademamix import SimplifiedAdemamix as SimplifiedAdemamix
from .sm3 import Sm3 as Sm3
from .yogi import Yogi as Yogi

ALL = {
    "sgd": Sgd,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "rmsprop": Rmsprop,
    "adam": Adam,
    "nadam": Nadam,
    "radam": Radam,
    "adamax": Adamax,
    "adadelta": Adadelta,
    "adabelief": Adabelief,
    "yogi": Yogi,
    "adabound": Adabound,
    "qhadam": Qhadam,
    "kate": Kate,
    "adan": Adan,
    "adopt": Adopt,
    "ademamix": Ademamix,
    "simplified_ademamix": SimplifiedAdemamix,
    "laprop": Laprop,
    "mars": Mars,
    "novograd": Novograd,
    "lion": Lion,
    "signum": Signum,
    "rprop": Rprop,
    "adafactor": Adafactor,
    "came": Came,
    "sm3": Sm3,
    "muon": Muon,
    "scion": Scion,
    "normuon": Normuon,
    "dion": Dion,
}
