"""The rules, one rule a file. `ALL`, the registry tests and the command line walk, has those that are optimizers."""

from .acprop import Acprop as Acprop
from .adabelief import Adabelief as Adabelief
from .adabound import Adabound as Adabound
from .adadelta import Adadelta as Adadelta
from .adafactor import Adafactor as Adafactor
from .adagrad import Adagrad as Adagrad
from .adahessian import Adahessian as Adahessian
from .adam import Adam as Adam
from .adam_mini import AdamMini as AdamMini
from .adamax import Adamax as Adamax
from .adan import Adan as Adan
from .ademamix import Ademamix as Ademamix
from .adopt import Adopt as Adopt
from .apollo import Apollo as Apollo
from .averages import Average as Average
from .averages import BiasCorrection as BiasCorrection
from .came import Came as Came
from .dion import Dion as Dion
from .galore import Galore as Galore
from .kate import Kate as Kate
from .laprop import Laprop as Laprop
from .lion import Lion as Lion
from .madgrad import Madgrad as Madgrad
from .mars import Mars as Mars
from .momentum import Momentum as Momentum
from .muon import Muon as Muon
from .nadam import Nadam as Nadam
from .normuon import Normuon as Normuon
from .novograd import Novograd as Novograd
from .psgd_kron import PsgdKron as PsgdKron
from .qhadam import Qhadam as Qhadam
from .radam import Radam as Radam
from .rmsprop import Rmsprop as Rmsprop
from .rprop import Rprop as Rprop
from .scion import Scion as Scion
from .sgd import Sgd as Sgd
from .sgd_sai import SgdSai as SgdSai
from .shampoo import Shampoo as Shampoo
from .signum import Signum as Signum
from .simplified_ademamix import SimplifiedAdemamix as SimplifiedAdemamix
from .sm3 import Sm3 as Sm3
from .soap import Soap as Soap
from .sophia import Sophia as Sophia
from .splus import Splus as Splus
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
    "acprop": Acprop,
    "madgrad": Madgrad,
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
    "adam_mini": AdamMini,
    "galore": Galore,
    "apollo": Apollo,
    "sgd_sai": SgdSai,
    "muon": Muon,
    "shampoo": Shampoo,
    "soap": Soap,
    "psgd_kron": PsgdKron,
    "splus": Splus,
    "sophia": Sophia,
    "adahessian": Adahessian,
    "scion": Scion,
    "normuon": Normuon,
    "dion": Dion,
}
